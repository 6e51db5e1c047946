// Prefix sums of 64-bit integers across a block, exact in any order.
#pragma once

#include "device/kernel.cuh"

struct BlockPrefix {
    unsigned long long before; // the sum over the threads below this one
    unsigned long long total;  // the sum over the block
};

// Prefix sums over a block of whole warps; all threads must take part. `scratch` is free again
// only after the next barrier.
DEVICE BlockPrefix block_prefix(unsigned long long value, unsigned long long (&scratch)[WARP_LANES]) {
    const unsigned lane = threadIdx.x % WARP_LANES;
    const unsigned warp = threadIdx.x / WARP_LANES;
    const unsigned n_warps = blockDim.x / WARP_LANES;
    unsigned long long sum = value;
    for (unsigned offset = 1; offset < WARP_LANES; offset *= 2) {
        const unsigned long long lower = __shfl_up_sync(FULL_WARP, sum, offset);
        sum += lane >= offset ? lower : 0;
    }
    if (lane == WARP_LANES - 1) {
        scratch[warp] = sum;
    }
    __syncthreads();
    BlockPrefix prefix = {sum - value, 0};
    for (unsigned other = 0; other < n_warps; ++other) {
        prefix.before += other < warp ? scratch[other] : 0;
        prefix.total += scratch[other];
    }
    return prefix;
}
