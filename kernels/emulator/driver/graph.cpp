// Graphs: captured work that is done again.
#include "driver.h"

using driver::Graph;

namespace {

// What can be exchanged in a graph that is ready to run: parameters, not the work itself.
bool alike(const Graph &a, const Graph &b) {
    if (a.nodes.size() != b.nodes.size()) {
        return false;
    }
    for (size_t i = 0; i < a.nodes.size(); ++i) {
        if (a.nodes[i].kind != b.nodes[i].kind) {
            return false;
        }
    }
    return true;
}

} // namespace

DRIVER_API cuGraphInstantiateWithFlags(CUgraphExec *made, CUgraph graph, unsigned long long) {
    ENTER
    if (driver::faults.strikes(driver::Fault::Instantiation)) {
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    *made = new CUgraphExec_st{std::make_shared<Graph>(*graph->graph)};
    return CUDA_SUCCESS;
}

DRIVER_API cuGraphUpload(CUgraphExec, CUstream) {
    ENTER
    return CUDA_SUCCESS;
}

DRIVER_API cuGraphLaunch(CUgraphExec exec, CUstream stream) {
    ENTER
    ++driver::session()->calls.graph_launches;
    return driver::submit(stream, driver::Kind::Graph, {}, [graph = exec->graph] {
        for (const driver::Work &node : graph->nodes) {
            if (const CUresult result = node.run(); result != CUDA_SUCCESS) {
                return result;
            }
        }
        return CUDA_SUCCESS;
    });
}

DRIVER_API cuGraphExecUpdate_v2(CUgraphExec exec, CUgraph graph, CUgraphExecUpdateResultInfo *info) {
    ENTER
    *info = {};
    if (!alike(*exec->graph, *graph->graph)) {
        info->result = CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED;
        return CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE;
    }
    // Launches that wait in a stream keep what they were launched with.
    exec->graph = std::make_shared<Graph>(*graph->graph);
    info->result = CU_GRAPH_EXEC_UPDATE_SUCCESS;
    return CUDA_SUCCESS;
}

DRIVER_API cuGraphGetNodes(CUgraph graph, CUgraphNode *, size_t *count) {
    ENTER
    *count = graph->graph->nodes.size();
    return CUDA_SUCCESS;
}

DRIVER_API cuGraphDestroy(CUgraph graph) {
    const driver::Lock lock(driver::mutex());
    delete graph;
    return CUDA_SUCCESS;
}

DRIVER_API cuGraphExecDestroy(CUgraphExec exec) {
    const driver::Lock lock(driver::mutex());
    delete exec;
    return CUDA_SUCCESS;
}
