// moe_matmul by experts' weights in F16, BF16 and F8_E4M3; formula in mod.rs, launches in
// experts.cuh and prefill.cuh, arithmetic in ../matmul. Bound by the bytes of the experts that
// have rows.

#include "ops/moe_matmul/experts.cuh"
#include "ops/moe_matmul/prefill.cuh"

KERNEL(moe_f16_decode, MoeDecodeParams, MATMUL_THREADS, 3) { moe_decode<F16Tile, 2>(params); }
KERNEL(moe_bf16_decode, MoeDecodeParams, MATMUL_THREADS, 3) { moe_decode<Bf16Tile, 2>(params); }
KERNEL(moe_f8_e4m3_decode, MoeDecodeParams, MATMUL_THREADS, 2) {
    moe_decode<F8E4M3Tile, 4>(params);
}

KERNEL(moe_f16_n32, MoePrefillParams, MATMUL_THREADS, 1) {
    moe_prefill<F16Tile, 32>(params);
}

KERNEL(moe_f16_n64, MoePrefillParams, MATMUL_THREADS, 1) {
    moe_prefill<F16Tile, 64>(params);
}

KERNEL(moe_bf16_n32, MoePrefillParams, MATMUL_THREADS, 1) {
    moe_prefill<Bf16Tile, 32>(params);
}

KERNEL(moe_bf16_n64, MoePrefillParams, MATMUL_THREADS, 1) {
    moe_prefill<Bf16Tile, 64>(params);
}

KERNEL(moe_f8_e4m3_n32, MoePrefillParams, MATMUL_THREADS, 1) {
    moe_prefill<F8E4M3Tile, 32>(params);
}

KERNEL(moe_f8_e4m3_n64, MoePrefillParams, MATMUL_THREADS, 1) {
    moe_prefill<F8E4M3Tile, 64>(params);
}
