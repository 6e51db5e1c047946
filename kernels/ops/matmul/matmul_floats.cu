// matmul by weights in F16, BF16 and F8_E4M3: out = x · Wᵀ; formula in mod.rs, layout in tiles.cuh.
//
// The tensor core takes 16-bit weights as they are; those of eight bits become f16, exactly.
// Launches: decode.cuh, prefill.cuh.

#include "ops/matmul/decode.cuh"
#include "ops/matmul/prefill.cuh"

KERNEL(matmul_f16_decode, MatmulDecodeParams, MATMUL_THREADS, 3) {
    matmul_decode<F16Tile, 2, true>(params);
}

KERNEL(matmul_bf16_decode, MatmulDecodeParams, MATMUL_THREADS, 3) {
    matmul_decode<Bf16Tile, 2, true>(params);
}

KERNEL(matmul_f8_e4m3_decode, MatmulDecodeParams, MATMUL_THREADS, 2) {
    matmul_decode<F8E4M3Tile, 4, true>(params);
}

KERNEL(matmul_f16_n16, MatmulPrefillParams, MATMUL_THREADS, 1) {
    matmul_prefill<F16Tile, 16>(params);
}

KERNEL(matmul_f16_n32, MatmulPrefillParams, MATMUL_THREADS, 1) {
    matmul_prefill<F16Tile, 32>(params);
}

KERNEL(matmul_f16_n64, MatmulPrefillParams, MATMUL_THREADS, 1) {
    matmul_prefill<F16Tile, 64>(params);
}

KERNEL(matmul_bf16_n16, MatmulPrefillParams, MATMUL_THREADS, 1) {
    matmul_prefill<Bf16Tile, 16>(params);
}

KERNEL(matmul_bf16_n32, MatmulPrefillParams, MATMUL_THREADS, 1) {
    matmul_prefill<Bf16Tile, 32>(params);
}

KERNEL(matmul_bf16_n64, MatmulPrefillParams, MATMUL_THREADS, 1) {
    matmul_prefill<Bf16Tile, 64>(params);
}

KERNEL(matmul_f8_e4m3_n16, MatmulPrefillParams, MATMUL_THREADS, 1) {
    matmul_prefill<F8E4M3Tile, 16>(params);
}

KERNEL(matmul_f8_e4m3_n32, MatmulPrefillParams, MATMUL_THREADS, 1) {
    matmul_prefill<F8E4M3Tile, 32>(params);
}

KERNEL(matmul_f8_e4m3_n64, MatmulPrefillParams, MATMUL_THREADS, 1) {
    matmul_prefill<F8E4M3Tile, 64>(params);
}
