// matmul by weights in Q5_0 and Q5_1, blocks of 32 integers of five bits with a scale and, in Q5_1, a
// minimum: out = x · Wᵀ; formula in mod.rs, layout in tiles.cuh.
//
// Integers become f16, exactly; sums of 32 products are scaled in f32. Launches: decode.cuh, prefill.cuh.

#include "ops/matmul/decode.cuh"
#include "ops/matmul/prefill.cuh"

KERNEL(matmul_q5_0_decode, MatmulDecodeParams, MATMUL_THREADS, 2) {
    matmul_decode<Q5_0Tile, 4, true>(params);
}

KERNEL(matmul_q5_1_decode, MatmulDecodeParams, MATMUL_THREADS, 2) {
    matmul_decode<Q5_1Tile, 4, true>(params);
}

KERNEL(matmul_q5_0_n16, MatmulPrefillParams, MATMUL_THREADS, 1) {
    matmul_prefill<Q5_0Tile, 16>(params);
}

KERNEL(matmul_q5_0_n32, MatmulPrefillParams, MATMUL_THREADS, 1) {
    matmul_prefill<Q5_0Tile, 32>(params);
}

KERNEL(matmul_q5_0_n64, MatmulPrefillParams, MATMUL_THREADS, 1) {
    matmul_prefill<Q5_0Tile, 64>(params);
}

KERNEL(matmul_q5_1_n16, MatmulPrefillParams, MATMUL_THREADS, 1) {
    matmul_prefill<Q5_1Tile, 16>(params);
}

KERNEL(matmul_q5_1_n32, MatmulPrefillParams, MATMUL_THREADS, 1) {
    matmul_prefill<Q5_1Tile, 32>(params);
}

KERNEL(matmul_q5_1_n64, MatmulPrefillParams, MATMUL_THREADS, 1) {
    matmul_prefill<Q5_1Tile, 64>(params);
}
