// The emulated twin of kernels/device/graph.cuh.
#pragma once

#include "device/kernel.cuh"
#include "emulator/machine/condition.h"

DEVICE void set_condition(unsigned long long handle, bool value) { emulator::set_condition(handle, value ? 1u : 0u); }
