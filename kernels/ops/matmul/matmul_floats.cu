// matmul by weights in F16, BF16 and F8_E4M3: out = x · Wᵀ; formula in mod.rs, layout in tiles.cuh.
//
// The tensor core takes 16-bit weights as they are; those of eight bits become f16, exactly.
// Launches: decode.cuh.

#include "ops/matmul/decode.cuh"

KERNEL(matmul_f16_decode, MatmulDecodeParams, MATMUL_THREADS, 3) {
    matmul_decode<F16Tile, 2>(params);
}

KERNEL(matmul_bf16_decode, MatmulDecodeParams, MATMUL_THREADS, 3) {
    matmul_decode<Bf16Tile, 2>(params);
}

KERNEL(matmul_f8_e4m3_decode, MatmulDecodeParams, MATMUL_THREADS, 2) {
    matmul_decode<F8E4M3Tile, 4>(params);
}
