// moe_combine: out = Σ weight · x over the slots of a row, slot by slot; formula in mod.rs.
//
// A thread computes as many values as fit into 16 bytes, so a block covers
// MOE_COMBINE_THREADS · 4 columns of one row. Bound by memory: 4 · (top_k + 1) bytes a value,
// 4 · (top_k + 2) where it accumulates.

#include "device/memory.cuh"
#include "ops/moe_combine/params.h"

// LANES values an access: 4 where every row starts on a 16-byte boundary, else 1.
template <int LANES>
DEVICE void combine_part(const MoeCombineParams &params) {
    const size_t row = blockIdx.x;
    const unsigned first = (blockIdx.y * MOE_COMBINE_THREADS + threadIdx.x) * LANES;
    if (first >= params.width) {
        return;
    }
    const float *weights = params.weights + row * params.top_k;
    const unsigned *places = params.places + row * params.top_k;
    float *out = params.out + row * params.width + first;
    Pack<float, LANES> sum{};
    for (unsigned slot = 0; slot < params.top_k; ++slot) {
        const float weight = weights[slot];
        const auto x =
            load_pack<LANES>(params.x + static_cast<size_t>(places[slot]) * params.width + first);
#pragma unroll
        for (int k = 0; k < LANES; ++k) {
            sum.lane[k] += weight * x.lane[k];
        }
    }
    if (params.accumulate) {
        const auto held = load_pack<LANES>(out);
#pragma unroll
        for (int k = 0; k < LANES; ++k) {
            sum.lane[k] = held.lane[k] + sum.lane[k];
        }
    }
    store_pack<LANES>(out, sum);
}

// Grid: n_rows × parts of MOE_COMBINE_THREADS accesses. Block: MOE_COMBINE_THREADS threads.
KERNEL(moe_combine, MoeCombineParams, MOE_COMBINE_THREADS, 1) {
    if (params.width % 4 == 0) {
        combine_part<4>(params);
    } else {
        combine_part<1>(params);
    }
}
