// The parameters of every kernel that goes wrong on purpose.
#pragma once

#include "device/kernel.cuh"

struct FaultParams {
    const float *in;
    float *out;
    unsigned n; // values in `in`
};
