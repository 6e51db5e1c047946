// rms_norm: out = x / sqrt(mean(x²) + epsilon) · weight, row by row; formula in mod.rs.
//
// One block normalises one row in two passes: sum the squares, then scale. The second pass reads
// the row again, from L1: a row of 8192 values is 32 KiB. Bound by memory: a row moves
// 2 · 4 · width bytes, 3 · 4 · width where it accumulates.

#include "device/memory.cuh"
#include "device/reduce.cuh"
#include "ops/rms_norm/params.h"

// LANES values an access: 4 where every row starts on a 16-byte boundary, else 1.
template <int LANES>
DEVICE void rms_norm_row(const RmsNormParams &params, float (&scratch)[WARP_LANES]) {
    const size_t row_start = static_cast<size_t>(blockIdx.x) * params.width;
    const float *__restrict__ x = params.x + row_start;
    const float *__restrict__ weight = params.weight;
    float *out = params.out + row_start;
    const unsigned stride = blockDim.x * LANES;

    float square_sum = 0.0f;
    for (unsigned i = threadIdx.x * LANES; i < params.width; i += stride) {
        const auto values = load_pack<LANES>(x + i);
#pragma unroll
        for (int k = 0; k < LANES; ++k) {
            square_sum = fmaf(values.lane[k], values.lane[k], square_sum);
        }
    }
    const float mean_square = block_sum(square_sum, scratch) / static_cast<float>(params.width);
    const float scale = 1.0f / sqrtf(mean_square + params.epsilon);

    for (unsigned i = threadIdx.x * LANES; i < params.width; i += stride) {
        const auto values = load_pack<LANES>(x + i);
        const auto weights = load_pack<LANES>(weight + i);
        auto result = weights;
        if (params.accumulate) {
            result = load_pack<LANES>(out + i);
        }
#pragma unroll
        for (int k = 0; k < LANES; ++k) {
            const float y = values.lane[k] * scale * weights.lane[k];
            result.lane[k] = params.accumulate ? result.lane[k] + y : y;
        }
        store_pack<LANES>(out + i, result);
    }
}

// Grid: n_rows blocks. Block: a multiple of 32 threads, at most RMS_NORM_MAX_THREADS.
KERNEL(rms_norm, RmsNormParams, RMS_NORM_MAX_THREADS, 1) {
    __shared__ float scratch[WARP_LANES];
    if (params.width % 4 == 0) {
        rms_norm_row<4>(params, scratch);
    } else {
        rms_norm_row<1>(params, scratch);
    }
}
