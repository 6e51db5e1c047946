// matmul by weights of four bits in blocks with a scale, Q4_0, Q4_1 (with a minimum), MXFP4 and INT4
// (with a zero point): out = x · Wᵀ; formula in mod.rs, layout in tiles.cuh.
//
// Nibbles become f16, exactly; sums of 32 products are scaled in f32. Launches: decode.cuh.

#include "ops/matmul/decode.cuh"

KERNEL(matmul_q4_0_decode, MatmulDecodeParams, MATMUL_THREADS, 3) {
    matmul_decode<Q4_0Tile, 4>(params);
}

KERNEL(matmul_q4_1_decode, MatmulDecodeParams, MATMUL_THREADS, 2) {
    matmul_decode<Q4_1Tile, 4>(params);
}

KERNEL(matmul_mxfp4_decode, MatmulDecodeParams, MATMUL_THREADS, 3) {
    matmul_decode<Mxfp4Tile, 4>(params);
}

KERNEL(matmul_int4_g32_decode, MatmulDecodeParams, MATMUL_THREADS, 3) {
    matmul_decode<Int4G32Tile, 4>(params);
}

KERNEL(matmul_int4_g128_decode, MatmulDecodeParams, MATMUL_THREADS, 2) {
    matmul_decode<Int4G128Tile, 4>(params);
}
