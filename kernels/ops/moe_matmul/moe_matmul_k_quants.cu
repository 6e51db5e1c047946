// moe_matmul by experts' weights in Q4_K, Q5_K and Q6_K; formula in mod.rs, launches in
// experts.cuh and prefill.cuh, arithmetic in ../matmul. Bound by the bytes of the experts that
// have rows.

#include "ops/moe_matmul/experts.cuh"
#include "ops/moe_matmul/prefill.cuh"

KERNEL(moe_q4_k_decode, MoeDecodeParams, MATMUL_THREADS, 2) { moe_decode<Q4_KTile, 4>(params); }
KERNEL(moe_q5_k_decode, MoeDecodeParams, MATMUL_THREADS, 3) { moe_decode<Q5_KTile, 4>(params); }
KERNEL(moe_q6_k_decode, MoeDecodeParams, MATMUL_THREADS, 2) { moe_decode<Q6_KTile, 4>(params); }

KERNEL(moe_q4_k_n32, MoePrefillParams, MATMUL_THREADS, 1) {
    moe_prefill<Q4_KTile, 32>(params);
}

KERNEL(moe_q4_k_n64, MoePrefillParams, MATMUL_THREADS, 1) {
    moe_prefill<Q4_KTile, 64>(params);
}

KERNEL(moe_q5_k_n32, MoePrefillParams, MATMUL_THREADS, 1) {
    moe_prefill<Q5_KTile, 32>(params);
}

KERNEL(moe_q5_k_n64, MoePrefillParams, MATMUL_THREADS, 1) {
    moe_prefill<Q5_KTile, 64>(params);
}

KERNEL(moe_q6_k_n32, MoePrefillParams, MATMUL_THREADS, 1) {
    moe_prefill<Q6_KTile, 32>(params);
}

KERNEL(moe_q6_k_n64, MoePrefillParams, MATMUL_THREADS, 1) {
    moe_prefill<Q6_KTile, 64>(params);
}
