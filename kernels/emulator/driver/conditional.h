// Conditional nodes of graphs, of which this driver has loops.
#pragma once

#include "driver.h"

namespace driver {

// Rounds of a loop after which it is taken for one that never ends. A real driver goes on.
constexpr size_t MAX_ROUNDS = 1000;

// The value of a condition just now.
unsigned condition(uint64_t handle);

void set_conditions_at_launch(const Graph &graph);
void forget_conditions(const Graph &graph);

// Whether the graph's loops go by conditions of its own, one each, and do what a loop may do.
bool loops_are_fine(const Graph &graph);

// The handle of a graph's node.
CUgraphNode node_handle(const Work &node);

} // namespace driver
