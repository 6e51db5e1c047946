// gated: out = activation(gate) · up, element by element; formulas in mod.rs.
//
// A thread computes as many values as fit into 16 bytes, so a block covers GATED_THREADS · 4
// columns of one row. Bound by memory: 3 · 4 bytes a value and one exponential.
//
// The tanh form of GELU is a logistic function too, since 1 + tanh(u) = 2 / (1 + e^−2u): that is
// one exponential like SiLU's, and exact in the tail where 1 + tanh(u) cancels.

#include "device/memory.cuh"

DEVICE float silu(float x) { return x / (1.0f + expf(-x)); }

DEVICE float gelu_tanh(float x) {
    constexpr float SQRT_2_OVER_PI = 0.79788456f;
    const float inner = SQRT_2_OVER_PI * (x + 0.044715f * x * x * x);
    return x / (1.0f + expf(-2.0f * inner));
}

// LANES values an access: 4 where every row starts on a 16-byte boundary, else 1.
template <int LANES>
DEVICE void gate_part(const GatedParams &params) {
    const size_t row = blockIdx.x;
    const float *__restrict__ gate = params.gate_up + 2 * row * params.width;
    const float *__restrict__ up = gate + params.width;
    float *__restrict__ out = params.out + row * params.width;
    const unsigned first = (blockIdx.y * GATED_THREADS + threadIdx.x) * LANES;
    if (first >= params.width) {
        return;
    }
    const auto gates = load_pack<LANES>(gate + first);
    auto result = load_pack<LANES>(up + first);
#pragma unroll
    for (int k = 0; k < LANES; ++k) {
        const float x = gates.lane[k];
        result.lane[k] *= params.activation == GATED_SILU ? silu(x) : gelu_tanh(x);
    }
    store_pack<LANES>(out + first, result);
}

// Grid: n_rows × parts of GATED_THREADS accesses. Block: GATED_THREADS threads.
KERNEL(gated, GatedParams, GATED_THREADS, 1) {
    if (params.width % 4 == 0) {
        gate_part<4>(params);
    } else {
        gate_part<1>(params);
    }
}
