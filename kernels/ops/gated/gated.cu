// gated: out = activation(gate) · up, element by element; formulas in mod.rs.
//
// A thread computes as many values as fit into 16 bytes, so a block covers GATED_THREADS · 4
// columns of one row. Bound by memory: 3 · 4 bytes a value and one exponential.

#include "device/memory.cuh"
#include "ops/gated/activation.cuh"

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
        result.lane[k] *= activate(params.activation, x);
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
