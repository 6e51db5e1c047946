// What a kernel tells the graph that it is a node of.
#pragma once

#include "device/kernel.cuh"

// Sets the value that decides on a conditional node of the graph. The driver has the function and
// links it when it loads the image, machine code and PTX alike.
DEVICE void set_condition(unsigned long long handle, bool value) {
    cudaGraphSetConditional(handle, value ? 1u : 0u);
}
