// What memory gives at best: the ceilings that operations are measured against.
//
// bandwidth_copy: out[i] = source[i]. bandwidth_read: for each warp the exclusive or of all words
// that it read, so that nothing is read in vain and the result tells whether all was read.
//
// 256 threads a block, a few blocks a multiprocessor; each thread has UNROLL loads of 16 bytes
// under way, 32 lanes next to one another. Bound by memory, which is their purpose.

#include "device/bandwidth/params.h"
#include "device/memory.cuh"

// Loads of a thread under way.
constexpr unsigned UNROLL = 8;

// Calls `take(index, pack)` for every pack, each by one thread of the grid.
template <typename Take>
DEVICE void for_each_pack(const BandwidthParams &params, Take take) {
    const uint64_t n_packs = params.n_packs;
    const uint64_t block_packs = UNROLL * BANDWIDTH_THREADS;
    for (uint64_t first = blockIdx.x * block_packs; first < n_packs; first += gridDim.x * block_packs) {
        uint4 packs[UNROLL];
#pragma unroll
        for (unsigned i = 0; i < UNROLL; ++i) {
            const uint64_t index = first + i * BANDWIDTH_THREADS + threadIdx.x;
            packs[i] = index < n_packs ? load_streaming(params.source + index * 4) : make_uint4(0, 0, 0, 0);
        }
#pragma unroll
        for (unsigned i = 0; i < UNROLL; ++i) {
            take(first + i * BANDWIDTH_THREADS + threadIdx.x, packs[i]);
        }
    }
}

KERNEL(bandwidth_copy, BandwidthParams, BANDWIDTH_THREADS, 4) {
    for_each_pack(params, [&](uint64_t index, const uint4 &pack) {
        if (index < params.n_packs) {
            store_pack(params.out + index * 4, Pack<unsigned, 4>{{pack.x, pack.y, pack.z, pack.w}});
        }
    });
}

KERNEL(bandwidth_read, BandwidthParams, BANDWIDTH_THREADS, 4) {
    unsigned word = 0;
    for_each_pack(params, [&](uint64_t, const uint4 &pack) { word ^= pack.x ^ pack.y ^ pack.z ^ pack.w; });
#pragma unroll
    for (unsigned offset = WARP_LANES / 2; offset > 0; offset /= 2) {
        word ^= __shfl_xor_sync(FULL_WARP, word, offset);
    }
    if (threadIdx.x % WARP_LANES == 0) {
        params.out[(blockIdx.x * BANDWIDTH_THREADS + threadIdx.x) / WARP_LANES] = word;
    }
}
