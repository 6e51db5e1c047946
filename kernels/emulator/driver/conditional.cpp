// Conditional nodes of graphs: those that repeat their body (WHILE).
#include "conditional.h"

#include <algorithm>
#include <map>

#include "emulator/machine/condition.h"
#include "emulator/machine/machine.h"

namespace {

// The values of all graphs' conditions.
std::map<uint64_t, unsigned> &values() {
    static std::map<uint64_t, unsigned> values;
    return values;
}

bool may_be_repeated(const driver::Work &node) {
    switch (node.kind) {
    case driver::Kind::Launch:
    case driver::Kind::Copy:
    case driver::Kind::Fill:
        return true;
    default:
        return false;
    }
}

} // namespace

void emulator::set_condition(uint64_t handle, unsigned value) {
    const auto found = values().find(handle);
    if (found == values().end()) {
        fault("a condition was set that no graph has");
    }
    found->second = value;
}

namespace driver {

unsigned condition(uint64_t handle) { return values()[handle]; }

void set_conditions_at_launch(const Graph &graph) {
    for (const Condition &condition : graph.conditions) {
        if (condition.is_set_at_launch) {
            values()[condition.handle] = condition.at_launch;
        }
    }
}

void forget_conditions(const Graph &graph) {
    for (const Condition &condition : graph.conditions) {
        values().erase(condition.handle);
    }
}

bool loops_are_fine(const Graph &graph) {
    std::vector<uint64_t> free;
    for (const Condition &condition : graph.conditions) {
        free.push_back(condition.handle);
    }
    for (const Work &node : graph.nodes) {
        if (node.loop == nullptr) {
            continue;
        }
        const auto own = std::find(free.begin(), free.end(), node.loop->condition);
        const std::vector<Work> &body = node.loop->body.graph->nodes;
        if (own == free.end() || !std::all_of(body.begin(), body.end(), may_be_repeated)) {
            return false;
        }
        free.erase(own);
    }
    return true;
}

CUgraphNode node_handle(const Work &node) { return reinterpret_cast<CUgraphNode>(node.order); }

} // namespace driver

DRIVER_API cuGraphConditionalHandleCreate(CUgraphConditionalHandle *made, CUgraph graph, CUcontext, unsigned at_launch,
                                          unsigned flags) {
    ENTER
    if (driver::faults.strikes(driver::Fault::Condition)) {
        return CUDA_ERROR_NOT_SUPPORTED;
    }
    const bool is_set = (flags & CU_GRAPH_COND_ASSIGN_DEFAULT) != 0;
    *made = driver::take_order();
    graph->graph->conditions.push_back({*made, at_launch, is_set});
    values()[*made] = at_launch;
    return CUDA_SUCCESS;
}

// A node comes behind those it depends on, and before all others: a dependency that is missing
// shows.
DRIVER_API cuGraphAddNode_v2(CUgraphNode *made, CUgraph graph, const CUgraphNode *dependencies,
                             const CUgraphEdgeData *, size_t n_dependencies, CUgraphNodeParams *params) {
    ENTER
    const bool is_loop = params->type == CU_GRAPH_NODE_TYPE_CONDITIONAL &&
                         params->conditional.type == CU_GRAPH_COND_TYPE_WHILE;
    if (!is_loop || params->conditional.size != 1) {
        return CUDA_ERROR_NOT_SUPPORTED;
    }
    std::vector<driver::Work> &nodes = graph->graph->nodes;
    auto place = nodes.begin();
    for (size_t i = 0; i < n_dependencies; ++i) {
        const auto found = std::find_if(nodes.begin(), nodes.end(), [&](const driver::Work &node) {
            return driver::node_handle(node) == dependencies[i];
        });
        if (found == nodes.end()) {
            return CUDA_ERROR_INVALID_VALUE;
        }
        place = std::max(place, found + 1);
    }
    const auto loop = std::make_shared<driver::Loop>(params->conditional.handle,
                                                     CUgraph_st{std::make_shared<driver::Graph>()});
    const driver::Work node{driver::Kind::Loop, {}, nullptr, driver::take_order(), loop};
    *made = driver::node_handle(node);
    params->conditional.phGraph_out = &loop->given_out;
    nodes.insert(place, node);
    return CUDA_SUCCESS;
}
