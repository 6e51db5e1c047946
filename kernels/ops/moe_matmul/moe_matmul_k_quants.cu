// moe_matmul by experts' weights in Q4_K, Q5_K and Q6_K; formula in mod.rs, launches in
// experts.cuh, arithmetic in ../matmul. Bound by the bytes of the experts that have rows.

#include "ops/moe_matmul/experts.cuh"

KERNEL(moe_q4_k_decode, MoeDecodeParams, MATMUL_THREADS, 2) { moe_decode<Q4_KTile, 4>(params); }
KERNEL(moe_q5_k_decode, MoeDecodeParams, MATMUL_THREADS, 3) { moe_decode<Q5_KTile, 4>(params); }
KERNEL(moe_q6_k_decode, MoeDecodeParams, MATMUL_THREADS, 2) { moe_decode<Q6_KTile, 4>(params); }
