// What kernels tell the graph that is running.
#pragma once

#include <cstdint>

namespace emulator {

// Sets the value that conditional nodes of this handle go by; a fault where no graph has it. The
// driver has the graphs.
void set_condition(uint64_t handle, unsigned value);

} // namespace emulator
