// Sums across a warp and across a block. The order of the additions depends on the block size
// alone, so equal inputs give equal bits.
#pragma once

#include "device/kernel.cuh"

// The sum over the 32 lanes, in every lane. All lanes must take part.
template <typename T>
DEVICE T warp_sum(T value) {
#pragma unroll
    for (unsigned offset = WARP_LANES / 2; offset > 0; offset /= 2) {
        value += __shfl_xor_sync(FULL_WARP, value, offset);
    }
    return value;
}

// The sum over the block, in every thread. `blockDim.x` is a multiple of 32, and all threads
// must take part; `scratch` is free again only after the next barrier.
DEVICE float block_sum(float value, float (&scratch)[WARP_LANES]) {
    const unsigned lane = threadIdx.x % WARP_LANES;
    const unsigned warp = threadIdx.x / WARP_LANES;
    value = warp_sum(value);
    if (lane == 0) {
        scratch[warp] = value;
    }
    __syncthreads();
    // Each warp adds the partial sums up for itself: cheaper than a second barrier.
    const unsigned n_warps = blockDim.x / WARP_LANES;
    return warp_sum(lane < n_warps ? scratch[lane] : 0.0f);
}
