// What becomes of a product, see MatmulOutput in params.h.
#pragma once

#include "device/kernel.cuh"
#include "ops/matmul/params.h"

DEVICE void finish(const MatmulOutput &output, unsigned token, unsigned row, float product) {
    float y = product * output.scale;
    if (output.bias != nullptr) {
        y += output.bias[row];
    }
    if (output.soft_cap != 0.0f) {
        y = output.soft_cap * tanhf(y / output.soft_cap);
    }
    float *out = output.out + static_cast<size_t>(token) * output.width + output.first + row;
    *out = output.accumulate != 0 ? *out + y : y;
}
