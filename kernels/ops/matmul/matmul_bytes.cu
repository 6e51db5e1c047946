// matmul by weights in Q8_0, blocks of 32 bytes with a scale: out = x · Wᵀ; formula in mod.rs, layout
// in tiles.cuh.
//
// Bytes become f16, exactly; sums of 32 products are scaled in f32. Launches: decode.cuh, prefill.cuh.

#include "ops/matmul/decode.cuh"
#include "ops/matmul/prefill.cuh"

KERNEL(matmul_q8_0_decode, MatmulDecodeParams, MATMUL_THREADS, 2) {
    matmul_decode<Q8_0Tile, 4, true>(params);
}

KERNEL(matmul_q8_0_n16, MatmulPrefillParams, MATMUL_THREADS, 1) {
    matmul_prefill<Q8_0Tile, 16>(params);
}

KERNEL(matmul_q8_0_n32, MatmulPrefillParams, MATMUL_THREADS, 1) {
    matmul_prefill<Q8_0Tile, 32>(params);
}

KERNEL(matmul_q8_0_n64, MatmulPrefillParams, MATMUL_THREADS, 1) {
    matmul_prefill<Q8_0Tile, 64>(params);
}
