// moe_matmul by experts' weights of four bits, Q4_0, Q4_1, MXFP4 and INT4; formula in mod.rs,
// launches in experts.cuh and prefill.cuh, arithmetic in ../matmul. Bound by the bytes of the
// experts that have rows.

#include "ops/moe_matmul/experts.cuh"
#include "ops/moe_matmul/prefill.cuh"

KERNEL(moe_q4_0_decode, MoeDecodeParams, MATMUL_THREADS, 2) { moe_decode<Q4_0Tile, 4>(params); }
KERNEL(moe_q4_1_decode, MoeDecodeParams, MATMUL_THREADS, 2) { moe_decode<Q4_1Tile, 4>(params); }
KERNEL(moe_mxfp4_decode, MoeDecodeParams, MATMUL_THREADS, 2) { moe_decode<Mxfp4Tile, 4>(params); }
KERNEL(moe_int4_g32_decode, MoeDecodeParams, MATMUL_THREADS, 2) {
    moe_decode<Int4G32Tile, 4>(params);
}
KERNEL(moe_int4_g128_decode, MoeDecodeParams, MATMUL_THREADS, 2) {
    moe_decode<Int4G128Tile, 4>(params);
}

KERNEL(moe_q4_0_n32, MoePrefillParams, MATMUL_THREADS, 1) {
    moe_prefill<Q4_0Tile, 32>(params);
}

KERNEL(moe_q4_0_n64, MoePrefillParams, MATMUL_THREADS, 1) {
    moe_prefill<Q4_0Tile, 64>(params);
}

KERNEL(moe_q4_1_n32, MoePrefillParams, MATMUL_THREADS, 1) {
    moe_prefill<Q4_1Tile, 32>(params);
}

KERNEL(moe_q4_1_n64, MoePrefillParams, MATMUL_THREADS, 1) {
    moe_prefill<Q4_1Tile, 64>(params);
}

KERNEL(moe_mxfp4_n32, MoePrefillParams, MATMUL_THREADS, 1) {
    moe_prefill<Mxfp4Tile, 32>(params);
}

KERNEL(moe_mxfp4_n64, MoePrefillParams, MATMUL_THREADS, 1) {
    moe_prefill<Mxfp4Tile, 64>(params);
}

KERNEL(moe_int4_g32_n32, MoePrefillParams, MATMUL_THREADS, 1) {
    moe_prefill<Int4G32Tile, 32>(params);
}

KERNEL(moe_int4_g32_n64, MoePrefillParams, MATMUL_THREADS, 1) {
    moe_prefill<Int4G32Tile, 64>(params);
}

KERNEL(moe_int4_g128_n32, MoePrefillParams, MATMUL_THREADS, 1) {
    moe_prefill<Int4G128Tile, 32>(params);
}

KERNEL(moe_int4_g128_n64, MoePrefillParams, MATMUL_THREADS, 1) {
    moe_prefill<Int4G128Tile, 64>(params);
}
