// The product of one row of F32 weights with up to MATMUL_GROUP_TOKENS tokens, by a warp: lane l
// sums the columns l, l + 32, … in order, then the lanes are added up.
#pragma once

#include "device/reduce.cuh"
#include "ops/matmul/output.cuh"

// Of the block's warps each takes a row; `first` is the first token.
DEVICE void f32_rows(const float *weights, unsigned n_rows, const MatmulInput &input,
                     const MatmulOutput &output, unsigned first) {
    const unsigned lane = threadIdx.x % WARP_LANES;
    const unsigned row = blockIdx.x * MATMUL_WARPS + threadIdx.x / WARP_LANES;
    if (row >= n_rows) {
        return;
    }
    const unsigned n_tokens = min(input.n_tokens - first, unsigned{MATMUL_GROUP_TOKENS});
    weights += static_cast<size_t>(row) * input.cols;
    const float *rows[MATMUL_GROUP_TOKENS];
    float sums[MATMUL_GROUP_TOKENS] = {};
#pragma unroll
    for (unsigned i = 0; i < MATMUL_GROUP_TOKENS; ++i) {
        const unsigned token = first + min(i, n_tokens - 1);
        const size_t at = input.rows == nullptr ? token : input.rows[token];
        rows[i] = input.x + at * input.cols;
    }
    for (unsigned column = lane; column < input.cols; column += WARP_LANES) {
        const float weight = weights[column];
#pragma unroll
        for (unsigned i = 0; i < MATMUL_GROUP_TOKENS; ++i) {
            sums[i] = fmaf(weight, rows[i][column], sums[i]);
        }
    }
#pragma unroll
    for (unsigned i = 0; i < MATMUL_GROUP_TOKENS; ++i) {
        const float sum = warp_sum(sums[i]);
        if (lane == 0 && i < n_tokens) {
            finish(output, first + i, row, sum);
        }
    }
}
