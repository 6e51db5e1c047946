// Threads that wait for others which do not come.
#include "device/ptx.cuh"
#include "emulator/faults/faults.h"

// Half of the warp shuffles with all of it.
KERNEL(shuffle_divergent, FaultParams, 32, 1) {
    float value = params.in[threadIdx.x];
    if (threadIdx.x < 16) {
        value += __shfl_xor_sync(FULL_WARP, value, 1);
    }
    params.out[threadIdx.x] = value;
}

// The halves are in different instructions.
KERNEL(shuffle_with_vote, FaultParams, 32, 1) {
    float value = params.in[threadIdx.x];
    if (threadIdx.x < 16) {
        value += __shfl_xor_sync(FULL_WARP, value, 1);
    } else {
        value += static_cast<float>(__ballot_sync(FULL_WARP, 1));
    }
    params.out[threadIdx.x] = value;
}

// Each half shuffles with itself.
KERNEL(shuffle_halves, FaultParams, 32, 1) {
    float value = params.in[threadIdx.x];
    if (threadIdx.x < 16) {
        value += __shfl_xor_sync(0x0000ffff, value, 1);
    } else {
        value -= __shfl_xor_sync(0xffff0000, value, 2);
    }
    params.out[threadIdx.x] = value;
}

KERNEL(shuffle_outside, FaultParams, 32, 1) {
    if (threadIdx.x < 16) {
        params.out[threadIdx.x] = __shfl_sync(0x0000ffff, params.in[threadIdx.x], 20);
    }
}

// The warps wait for each other at different barriers.
KERNEL(deadlock, FaultParams, 64, 1) {
    if (threadIdx.x < 32) {
        named_barrier(1, 64);
    } else {
        named_barrier(2, 64);
    }
    params.out[threadIdx.x] = 1.0f;
}

KERNEL(barrier_after_exit, FaultParams, 64, 1) {
    if (threadIdx.x < 32) {
        return;
    }
    __syncthreads();
    params.out[threadIdx.x] = 1.0f;
}
