// matmul by weights in F32, exactly as they are: out = x · Wᵀ; formula in mod.rs.
//
// For small matrices, such as the routers of a mixture of experts. A warp a row of weights and
// group of tokens, see f32.cuh. Bound by memory.

#include "ops/matmul/f32.cuh"

// Grid: groups of MATMUL_WARPS rows × groups of tokens. Block: MATMUL_THREADS threads.
KERNEL(matmul_f32, MatmulF32Params, MATMUL_THREADS, 2) {
    f32_rows(params.weights, params.n_rows, params.input, params.output,
             blockIdx.y * MATMUL_GROUP_TOKENS);
}
