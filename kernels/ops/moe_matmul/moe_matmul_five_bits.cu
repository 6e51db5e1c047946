// moe_matmul by experts' weights in Q5_0 and Q5_1; formula in mod.rs, launches in experts.cuh and
// prefill.cuh, arithmetic in ../matmul. Bound by the bytes of the experts that have rows.

#include "ops/moe_matmul/experts.cuh"
#include "ops/moe_matmul/prefill.cuh"

KERNEL(moe_q5_0_decode, MoeDecodeParams, MATMUL_THREADS, 2) { moe_decode<Q5_0Tile, 4>(params); }
KERNEL(moe_q5_1_decode, MoeDecodeParams, MATMUL_THREADS, 2) { moe_decode<Q5_1Tile, 4>(params); }

KERNEL(moe_q5_0_n32, MoePrefillParams, MATMUL_THREADS, 1) {
    moe_prefill<Q5_0Tile, 32>(params);
}

KERNEL(moe_q5_0_n64, MoePrefillParams, MATMUL_THREADS, 1) {
    moe_prefill<Q5_0Tile, 64>(params);
}

KERNEL(moe_q5_1_n32, MoePrefillParams, MATMUL_THREADS, 1) {
    moe_prefill<Q5_1Tile, 32>(params);
}

KERNEL(moe_q5_1_n64, MoePrefillParams, MATMUL_THREADS, 1) {
    moe_prefill<Q5_1Tile, 64>(params);
}
