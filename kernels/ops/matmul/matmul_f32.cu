// matmul by weights in F32, exactly as they are: out = x · Wᵀ; formula in mod.rs.
//
// For small matrices, such as the routers of a mixture of experts. A warp takes one row of weights
// and up to MATMUL_GROUP_TOKENS tokens; lane l sums the columns l, l + 32, … in order, then the
// lanes are added up. Bound by memory.

#include "device/reduce.cuh"
#include "ops/matmul/output.cuh"

// Grid: groups of MATMUL_WARPS rows × groups of tokens. Block: MATMUL_THREADS threads.
KERNEL(matmul_f32, MatmulF32Params, MATMUL_THREADS, 2) {
    const unsigned lane = threadIdx.x % WARP_LANES;
    const unsigned row = blockIdx.x * MATMUL_WARPS + threadIdx.x / WARP_LANES;
    if (row >= params.n_rows) {
        return;
    }
    const MatmulInput &input = params.input;
    const unsigned first = blockIdx.y * MATMUL_GROUP_TOKENS;
    const unsigned n_tokens = min(input.n_tokens - first, unsigned{MATMUL_GROUP_TOKENS});
    const float *weights = params.weights + static_cast<size_t>(row) * input.cols;
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
            finish(params.output, first + i, row, sum);
        }
    }
}
