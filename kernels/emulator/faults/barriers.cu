// Barriers and waits that are missing, next to kernels that have them.
#include "device/memory.cuh"
#include "device/ptx.cuh"
#include "emulator/faults/faults.h"

constexpr unsigned N_THREADS = 128;

// Reverses the values of a block through shared memory.
template <bool WITH_BARRIER>
DEVICE void reverse(const FaultParams &params) {
    __shared__ float values[N_THREADS];
    values[threadIdx.x] = params.in[threadIdx.x];
    if (WITH_BARRIER) {
        __syncthreads();
    }
    params.out[threadIdx.x] = values[N_THREADS - 1 - threadIdx.x];
}

KERNEL(barrier_missing, FaultParams, N_THREADS, 1) { reverse<false>(params); }
KERNEL(barrier_there, FaultParams, N_THREADS, 1) { reverse<true>(params); }

// Sums tiles that go through one buffer: the last read of a tile comes before the next write.
template <bool WITH_TRAILING_BARRIER>
DEVICE void sum_tiles(const FaultParams &params) {
    __shared__ float tile[N_THREADS];
    float sum = 0.0f;
    for (unsigned first = 0; first < params.n; first += N_THREADS) {
        tile[threadIdx.x] = params.in[first + threadIdx.x];
        __syncthreads();
        sum += tile[(threadIdx.x + 40) % N_THREADS];
        if (WITH_TRAILING_BARRIER) {
            __syncthreads();
        }
    }
    params.out[threadIdx.x] = sum;
}

KERNEL(buffer_reused, FaultParams, N_THREADS, 1) { sum_tiles<false>(params); }
KERNEL(buffer_guarded, FaultParams, N_THREADS, 1) { sum_tiles<true>(params); }

// Copies a tile asynchronously, four values a thread, and gives out the next thread's.
template <bool WITH_WAIT>
DEVICE void copy_tile(const FaultParams &params) {
    float *tile = dynamic_shared<float>();
    cp_async_16(shared_address(tile + 4 * threadIdx.x), params.in + 4 * threadIdx.x);
    cp_async_commit();
    if (WITH_WAIT) {
        cp_async_wait<0>();
    }
    __syncthreads();
    const unsigned next = (threadIdx.x + 1) % N_THREADS;
    store_pack<4>(params.out + 4 * threadIdx.x, load_pack<4>(tile + 4 * next));
}

KERNEL(wait_missing, FaultParams, N_THREADS, 1) { copy_tile<false>(params); }
KERNEL(wait_there, FaultParams, N_THREADS, 1) { copy_tile<true>(params); }

KERNEL(commit_missing, FaultParams, N_THREADS, 1) {
    cp_async_16(shared_address(dynamic_shared<float>() + 4 * threadIdx.x), params.in + 4 * threadIdx.x);
}
