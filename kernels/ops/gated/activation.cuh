// The functions of gates.
//
// The tanh form of GELU is a logistic function too, since 1 + tanh(u) = 2 / (1 + e^−2u): that is
// one exponential like SiLU's, and exact in the tail where 1 + tanh(u) cancels.
#pragma once

#include "device/kernel.cuh"
#include "ops/gated/params.h"

DEVICE float silu(float x) { return x / (1.0f + expf(-x)); }

DEVICE float gelu_tanh(float x) {
    constexpr float SQRT_2_OVER_PI = 0.79788456f;
    const float inner = SQRT_2_OVER_PI * (x + 0.044715f * x * x * x);
    return x / (1.0f + expf(-2.0f * inner));
}

// `function` is GATED_SILU or GATED_GELU_TANH.
DEVICE float activate(unsigned function, float x) {
    return function == GATED_SILU ? silu(x) : gelu_tanh(x);
}
