// Addresses that are wrong.
#include "device/memory.cuh"
#include "device/ptx.cuh"
#include "emulator/faults/faults.h"

// One thread too many.
KERNEL(store_past_end, FaultParams, 128, 1) {
    if (threadIdx.x <= params.n) {
        params.out[threadIdx.x] = 1.0f;
    }
}

KERNEL(load_past_end, FaultParams, 128, 1) {
    if (threadIdx.x < params.n) {
        params.out[threadIdx.x] = params.in[threadIdx.x + 1];
    }
}

KERNEL(misaligned_pack, FaultParams, 32, 1) { store_pack<4>(params.out, load_pack<4>(params.in + 1)); }

KERNEL(misaligned_copy, FaultParams, 32, 1) {
    cp_async_16(shared_address(dynamic_shared<float>() + threadIdx.x), params.in + 4 * threadIdx.x);
    cp_async_commit();
    cp_async_wait<0>();
}

KERNEL(misaligned_matrix, FaultParams, 32, 1) {
    uint32_t registers[4];
    ldmatrix_x4(registers, shared_address(dynamic_shared<float>()) + 16 * threadIdx.x + 4);
    params.out[threadIdx.x] = static_cast<float>(registers[0]);
}

// Asks for one row more than the launch gave.
KERNEL(matrix_past_end, FaultParams, 32, 1) {
    uint32_t registers[4];
    ldmatrix_x4(registers, shared_address(dynamic_shared<float>()) + 16 * (threadIdx.x + 1));
    params.out[threadIdx.x] = static_cast<float>(registers[0]);
}

KERNEL(dynamic_past_end, FaultParams, 128, 1) {
    float *values = dynamic_shared<float>();
    values[threadIdx.x + 1] = params.in[threadIdx.x];
    __syncthreads();
    params.out[threadIdx.x] = values[threadIdx.x];
}

KERNEL(static_past_end, FaultParams, 128, 1) {
    __shared__ float values[128];
    values[threadIdx.x + params.n / 128] = params.in[threadIdx.x];
    __syncthreads();
    params.out[threadIdx.x] = values[threadIdx.x];
}
