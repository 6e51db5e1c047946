// matmul by weights in Q4_K, Q5_K and Q6_K, super-blocks of 256 whose groups have scales of their
// own: out = x · Wᵀ; formula in mod.rs, layout in tiles.cuh.
//
// Integers become f16, exactly; sums of 32 products (16 in Q6_K) are scaled in f32; minima multiply
// the activations' sums. Launches: decode.cuh, prefill.cuh.

#include "ops/matmul/decode.cuh"
#include "ops/matmul/prefill.cuh"

KERNEL(matmul_q4_k_decode, MatmulDecodeParams, MATMUL_THREADS, 3) {
    matmul_decode<Q4_KTile, 4, true>(params);
}

KERNEL(matmul_q5_k_decode, MatmulDecodeParams, MATMUL_THREADS, 3) {
    matmul_decode<Q5_KTile, 4, true>(params);
}

KERNEL(matmul_q6_k_decode, MatmulDecodeParams, MATMUL_THREADS, 3) {
    matmul_decode<Q6_KTile, 4, true>(params);
}

KERNEL(matmul_q4_k_n16, MatmulPrefillParams, MATMUL_THREADS, 1) {
    matmul_prefill<Q4_KTile, 16>(params);
}

KERNEL(matmul_q4_k_n32, MatmulPrefillParams, MATMUL_THREADS, 1) {
    matmul_prefill<Q4_KTile, 32>(params);
}

KERNEL(matmul_q4_k_n64, MatmulPrefillParams, MATMUL_THREADS, 1) {
    matmul_prefill<Q4_KTile, 64>(params);
}

KERNEL(matmul_q5_k_n16, MatmulPrefillParams, MATMUL_THREADS, 1) {
    matmul_prefill<Q5_KTile, 16>(params);
}

KERNEL(matmul_q5_k_n32, MatmulPrefillParams, MATMUL_THREADS, 1) {
    matmul_prefill<Q5_KTile, 32>(params);
}

KERNEL(matmul_q5_k_n64, MatmulPrefillParams, MATMUL_THREADS, 1) {
    matmul_prefill<Q5_KTile, 64>(params);
}

KERNEL(matmul_q6_k_n16, MatmulPrefillParams, MATMUL_THREADS, 1) {
    matmul_prefill<Q6_KTile, 16>(params);
}

KERNEL(matmul_q6_k_n32, MatmulPrefillParams, MATMUL_THREADS, 1) {
    matmul_prefill<Q6_KTile, 32>(params);
}

KERNEL(matmul_q6_k_n64, MatmulPrefillParams, MATMUL_THREADS, 1) {
    matmul_prefill<Q6_KTile, 64>(params);
}
