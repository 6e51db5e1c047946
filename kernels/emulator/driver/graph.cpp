// Graphs: captured work that is done again.
#include <algorithm>

#include "conditional.h"
#include "driver.h"

using driver::Graph;
using driver::Kind;
using driver::Work;

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

// A graph that goes its own way: what is done to the other one later does not change it.
std::shared_ptr<Graph> copy(const Graph &graph) {
    auto copied = std::make_shared<Graph>(graph);
    for (Work &node : copied->nodes) {
        if (node.loop != nullptr) {
            node.loop = std::make_shared<driver::Loop>(node.loop->condition, CUgraph_st{copy(*node.loop->body.graph)});
        }
    }
    return copied;
}

// A launch of a graph, as far as it has come.
struct Run {
    std::shared_ptr<Graph> graph;
    CUstream stream;
    std::shared_ptr<driver::Session> session;
    size_t next = 0;     // node
    size_t n_rounds = 0; // of it, if it is a loop
};

CUresult go_on(Run run);

// A graph's loop is a piece of work for each of its rounds: whoever asks the stream how far it is
// sees what a round did before the next one begins.
CUresult next_round(Run run) {
    const driver::Loop &loop = *run.graph->nodes[run.next].loop;
    if (driver::condition(loop.condition) == 0) {
        ++run.next;
        run.n_rounds = 0;
        return go_on(run);
    }
    if (++run.n_rounds > driver::MAX_ROUNDS) {
        run.session->report = "a loop of a graph went around " + std::to_string(driver::MAX_ROUNDS) + " times";
        return CUDA_ERROR_LAUNCH_FAILED;
    }
    ++run.session->calls.rounds;
    for (const Work &node : loop.body.graph->nodes) {
        if (const CUresult result = node.run(); result != CUDA_SUCCESS) {
            return result;
        }
    }
    const CUstream stream = run.stream;
    stream->queue.push_front({Kind::Graph, {}, [run = std::move(run)] { return next_round(run); }, stream->order});
    return CUDA_SUCCESS;
}

CUresult go_on(Run run) {
    for (; run.next < run.graph->nodes.size(); ++run.next) {
        const Work &node = run.graph->nodes[run.next];
        if (node.kind == Kind::Loop) {
            return next_round(std::move(run));
        }
        if (const CUresult result = node.run(); result != CUDA_SUCCESS) {
            return result;
        }
    }
    return CUDA_SUCCESS;
}

} // namespace

DRIVER_API cuGraphCreate(CUgraph *made, unsigned) {
    ENTER
    *made = new CUgraph_st{std::make_shared<Graph>()};
    return CUDA_SUCCESS;
}

DRIVER_API cuGraphInstantiateWithFlags(CUgraphExec *made, CUgraph graph, unsigned long long) {
    ENTER
    if (driver::faults.strikes(driver::Fault::Instantiation)) {
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    if (!driver::loops_are_fine(*graph->graph)) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    *made = new CUgraphExec_st{copy(*graph->graph)};
    return CUDA_SUCCESS;
}

DRIVER_API cuGraphUpload(CUgraphExec, CUstream) {
    ENTER
    return CUDA_SUCCESS;
}

DRIVER_API cuGraphLaunch(CUgraphExec exec, CUstream stream) {
    ENTER
    ++driver::session()->calls.graph_launches;
    const Run run{exec->graph, driver::resolve(stream), driver::session()};
    return driver::submit(stream, Kind::Graph, {}, [run] {
        driver::set_conditions_at_launch(*run.graph);
        return go_on(run);
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
    exec->graph = copy(*graph->graph);
    info->result = CU_GRAPH_EXEC_UPDATE_SUCCESS;
    return CUDA_SUCCESS;
}

DRIVER_API cuGraphGetNodes(CUgraph graph, CUgraphNode *found, size_t *count) {
    ENTER
    const std::vector<Work> &nodes = graph->graph->nodes;
    if (found == nullptr) {
        *count = nodes.size();
        return CUDA_SUCCESS;
    }
    *count = std::min(*count, nodes.size());
    for (size_t i = 0; i < *count; ++i) {
        found[i] = driver::node_handle(nodes[i]);
    }
    return CUDA_SUCCESS;
}

DRIVER_API cuGraphDestroy(CUgraph graph) {
    const driver::Lock lock(driver::mutex());
    driver::forget_conditions(*graph->graph);
    delete graph;
    return CUDA_SUCCESS;
}

DRIVER_API cuGraphExecDestroy(CUgraphExec exec) {
    const driver::Lock lock(driver::mutex());
    delete exec;
    return CUDA_SUCCESS;
}
