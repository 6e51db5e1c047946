// matmul by weights of four bits in blocks with a scale, Q4_0, Q4_1 (with a minimum), MXFP4 and INT4
// (with a zero point): out = x · Wᵀ; formula in mod.rs, layout in tiles.cuh.
//
// Nibbles become f16, exactly; sums of 32 products are scaled in f32. Launches: decode.cuh, prefill.cuh.

#include "ops/matmul/decode.cuh"
#include "ops/matmul/prefill.cuh"

KERNEL(matmul_q4_0_decode, MatmulDecodeParams, MATMUL_THREADS, 3) {
    matmul_decode<Q4_0Tile, 4, true>(params);
}

KERNEL(matmul_q4_1_decode, MatmulDecodeParams, MATMUL_THREADS, 2) {
    matmul_decode<Q4_1Tile, 4, true>(params);
}

KERNEL(matmul_mxfp4_decode, MatmulDecodeParams, MATMUL_THREADS, 2) {
    matmul_decode<Mxfp4Tile, 8, true>(params);
}

KERNEL(matmul_int4_g32_decode, MatmulDecodeParams, MATMUL_THREADS, 3) {
    matmul_decode<Int4G32Tile, 4, true>(params);
}

KERNEL(matmul_int4_g128_decode, MatmulDecodeParams, MATMUL_THREADS, 2) {
    matmul_decode<Int4G128Tile, 4, true>(params);
}

KERNEL(matmul_q4_0_n16, MatmulPrefillParams, MATMUL_THREADS, 1) {
    matmul_prefill<Q4_0Tile, 16>(params);
}

KERNEL(matmul_q4_0_n32, MatmulPrefillParams, MATMUL_THREADS, 1) {
    matmul_prefill<Q4_0Tile, 32>(params);
}

KERNEL(matmul_q4_0_n64, MatmulPrefillParams, MATMUL_THREADS, 1) {
    matmul_prefill<Q4_0Tile, 64>(params);
}

KERNEL(matmul_q4_1_n16, MatmulPrefillParams, MATMUL_THREADS, 1) {
    matmul_prefill<Q4_1Tile, 16>(params);
}

KERNEL(matmul_q4_1_n32, MatmulPrefillParams, MATMUL_THREADS, 1) {
    matmul_prefill<Q4_1Tile, 32>(params);
}

KERNEL(matmul_q4_1_n64, MatmulPrefillParams, MATMUL_THREADS, 1) {
    matmul_prefill<Q4_1Tile, 64>(params);
}

KERNEL(matmul_mxfp4_n16, MatmulPrefillParams, MATMUL_THREADS, 1) {
    matmul_prefill<Mxfp4Tile, 16>(params);
}

KERNEL(matmul_mxfp4_n32, MatmulPrefillParams, MATMUL_THREADS, 1) {
    matmul_prefill<Mxfp4Tile, 32>(params);
}

KERNEL(matmul_mxfp4_n64, MatmulPrefillParams, MATMUL_THREADS, 1) {
    matmul_prefill<Mxfp4Tile, 64>(params);
}

KERNEL(matmul_int4_g32_n16, MatmulPrefillParams, MATMUL_THREADS, 1) {
    matmul_prefill<Int4G32Tile, 16>(params);
}

KERNEL(matmul_int4_g32_n32, MatmulPrefillParams, MATMUL_THREADS, 1) {
    matmul_prefill<Int4G32Tile, 32>(params);
}

KERNEL(matmul_int4_g32_n64, MatmulPrefillParams, MATMUL_THREADS, 1) {
    matmul_prefill<Int4G32Tile, 64>(params);
}

KERNEL(matmul_int4_g128_n16, MatmulPrefillParams, MATMUL_THREADS, 1) {
    matmul_prefill<Int4G128Tile, 16>(params);
}

KERNEL(matmul_int4_g128_n32, MatmulPrefillParams, MATMUL_THREADS, 1) {
    matmul_prefill<Int4G128Tile, 32>(params);
}

KERNEL(matmul_int4_g128_n64, MatmulPrefillParams, MATMUL_THREADS, 1) {
    matmul_prefill<Int4G128Tile, 64>(params);
}
