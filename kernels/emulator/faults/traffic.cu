// Kernels whose traffic can be counted by hand; the tests do.
#include "device/memory.cuh"
#include "device/ptx.cuh"
#include "emulator/faults/faults.h"

constexpr unsigned N_THREADS = 128;

// Four bytes a thread, side by side.
KERNEL(copy_coalesced, FaultParams, N_THREADS, 1) {
    const unsigned i = blockIdx.x * N_THREADS + threadIdx.x;
    params.out[i] = params.in[i];
}

// The same values, 32 bytes apart in a warp's load: an eighth of what is moved is used.
KERNEL(copy_strided, FaultParams, N_THREADS, 1) {
    const unsigned i = blockIdx.x * N_THREADS + threadIdx.x;
    const unsigned n_rows = params.n / 8;
    params.out[i] = params.in[i % n_rows * 8 + i / n_rows];
}

// 16 bytes a thread.
KERNEL(copy_packs, FaultParams, N_THREADS, 1) {
    const unsigned i = (blockIdx.x * N_THREADS + threadIdx.x) * 4;
    store_pack<4>(params.out + i, load_pack<4>(params.in + i));
}

// Goes through all values N_PASSES times and gives out one sum a thread.
template <unsigned N_PASSES>
DEVICE void sum_values(const FaultParams &params) {
    float sum = 0.0f;
    for (unsigned pass = 0; pass < N_PASSES; ++pass) {
        for (unsigned i = threadIdx.x * 4; i < params.n; i += N_THREADS * 4) {
            const auto values = load_pack<4>(params.in + i);
            sum += values.lane[0] + values.lane[1] + values.lane[2] + values.lane[3];
        }
        // All threads are through before any begins again.
        __syncthreads();
    }
    params.out[threadIdx.x] = sum;
}

KERNEL(weights_once, FaultParams, N_THREADS, 1) { sum_values<1>(params); }
KERNEL(weights_twice, FaultParams, N_THREADS, 1) { sum_values<2>(params); }

// Transposes a 32 × 32 tile through shared memory with rows of STRIDE words: 32 puts a column
// into one bank.
template <unsigned STRIDE>
DEVICE void transpose(const FaultParams &params) {
    __shared__ float tile[32 * STRIDE];
    const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    for (unsigned row = warp; row < 32; row += N_THREADS / 32) {
        tile[row * STRIDE + lane] = params.in[row * 32 + lane];
    }
    __syncthreads();
    for (unsigned row = warp; row < 32; row += N_THREADS / 32) {
        params.out[row * 32 + lane] = tile[lane * STRIDE + row];
    }
}

KERNEL(banks_conflict, FaultParams, N_THREADS, 1) { transpose<32>(params); }
KERNEL(banks_padded, FaultParams, N_THREADS, 1) { transpose<33>(params); }

// One of each: what counts as what.
KERNEL(one_of_each, FaultParams, 32, 1) {
    float *tile = dynamic_shared<float>();
    cp_async_16(shared_address(tile + 4 * threadIdx.x), params.in + 4 * threadIdx.x);
    cp_async_commit();
    cp_async_wait<0>();
    __syncthreads();
    uint32_t a[4];
    ldmatrix_x4(a, shared_address(tile) + 16 * threadIdx.x);
    float d[4] = {};
    mma_bf16(d, a, a[0], a[1]);
    const unsigned votes = __ballot_sync(FULL_WARP, d[0] > 0.0f);
    atomicAdd(params.out, __shfl_xor_sync(FULL_WARP, d[1], 1) + static_cast<float>(votes));
}
