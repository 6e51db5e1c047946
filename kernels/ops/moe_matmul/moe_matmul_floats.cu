// moe_matmul by experts' weights in F16, BF16 and F8_E4M3; formula in mod.rs, launches in
// experts.cuh, arithmetic in ../matmul. Bound by the bytes of the experts that have rows.

#include "ops/moe_matmul/experts.cuh"

KERNEL(moe_f16_decode, MoeDecodeParams, MATMUL_THREADS, 3) { moe_decode<F16Tile, 2>(params); }
KERNEL(moe_bf16_decode, MoeDecodeParams, MATMUL_THREADS, 3) { moe_decode<Bf16Tile, 2>(params); }
KERNEL(moe_f8_e4m3_decode, MoeDecodeParams, MATMUL_THREADS, 2) {
    moe_decode<F8E4M3Tile, 4>(params);
}
