// rms_norm: out = x / sqrt(mean(x²) + epsilon) · weight, row by row; formula in mod.rs.
//
// One block normalises one row in two passes: sum the squares, then scale. The second pass reads
// the row again, from L1: a row of 8192 values is 32 KiB. Bound by memory: a row moves
// 2 · 4 · width bytes, 3 · 4 · width where it accumulates.

#include "abi.h"
#include "device/pack.cuh"
#include "device/reduce.cuh"

// LANES values an access: 4 where every row starts on a 16-byte boundary, else 1.
template <unsigned LANES>
__device__ __forceinline__ void rms_norm_row(const RmsNormParams &params, float (&scratch)[WARP_LANES]) {
    const size_t row_start = static_cast<size_t>(blockIdx.x) * params.width;
    const float *__restrict__ x = params.x + row_start;
    const float *__restrict__ weight = params.weight;
    float *__restrict__ out = params.out + row_start;
    const unsigned n_packs = params.width / LANES;

    float square_sum = 0.0f;
    for (unsigned i = threadIdx.x; i < n_packs; i += blockDim.x) {
        const Pack<float, LANES> values = load_pack<LANES>(x, i);
#pragma unroll
        for (unsigned k = 0; k < LANES; ++k) {
            square_sum += values.lane[k] * values.lane[k];
        }
    }
    const float mean_square = block_sum(square_sum, scratch) / static_cast<float>(params.width);
    const float scale = 1.0f / sqrtf(mean_square + params.epsilon);

    for (unsigned i = threadIdx.x; i < n_packs; i += blockDim.x) {
        const Pack<float, LANES> values = load_pack<LANES>(x, i);
        const Pack<float, LANES> weights = load_pack<LANES>(weight, i);
        Pack<float, LANES> result;
#pragma unroll
        for (unsigned k = 0; k < LANES; ++k) {
            result.lane[k] = values.lane[k] * scale * weights.lane[k];
        }
        if (params.accumulate) {
            const Pack<float, LANES> before = load_pack<LANES>(static_cast<const float *>(out), i);
#pragma unroll
            for (unsigned k = 0; k < LANES; ++k) {
                result.lane[k] += before.lane[k];
            }
        }
        store_pack<LANES>(out, i, result);
    }
}

// Grid: n_rows blocks. Block: a multiple of 32 threads, at most RMS_NORM_MAX_THREADS.
extern "C" __global__ void __launch_bounds__(RMS_NORM_MAX_THREADS)
    rms_norm(const __grid_constant__ RmsNormParams params) {
    __shared__ float scratch[WARP_LANES];
    if (params.width % 4 == 0) {
        rms_norm_row<4>(params, scratch);
    } else {
        rms_norm_row<1>(params, scratch);
    }
}
