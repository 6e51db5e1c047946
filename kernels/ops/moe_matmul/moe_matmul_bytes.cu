// moe_matmul by experts' weights in Q8_0; formula in mod.rs, launches in experts.cuh and
// prefill.cuh, arithmetic in ../matmul. Bound by the bytes of the experts that have rows.

#include "ops/moe_matmul/experts.cuh"
#include "ops/moe_matmul/prefill.cuh"

KERNEL(moe_q8_0_decode, MoeDecodeParams, MATMUL_THREADS, 3) { moe_decode<Q8_0Tile, 2>(params); }

KERNEL(moe_q8_0_n32, MoePrefillParams, MATMUL_THREADS, 1) {
    moe_prefill<Q8_0Tile, 32>(params);
}

KERNEL(moe_q8_0_n64, MoePrefillParams, MATMUL_THREADS, 1) {
    moe_prefill<Q8_0Tile, 64>(params);
}
