// architectures: 90a
// matmul of many tokens by weights in Q4_K, Q5_K and Q6_K on Hopper: out = x · Wᵀ; formula in mod.rs, launch
// and what bounds it in hopper.cuh.

#include "ops/matmul/hopper.cuh"

KERNEL(matmul_q4_k_hopper, MatmulPrefillParams, MATMUL_HOPPER_THREADS, 1) {
    matmul_hopper<Q4_KTile, MATMUL_HOPPER_GROUPS>(params);
}

KERNEL(matmul_q5_k_hopper, MatmulPrefillParams, MATMUL_HOPPER_THREADS, 1) {
    matmul_hopper<Q5_KTile, MATMUL_HOPPER_GROUPS>(params);
}

KERNEL(matmul_q6_k_hopper, MatmulPrefillParams, MATMUL_HOPPER_THREADS, 1) {
    matmul_hopper<Q6_KTile, MATMUL_HOPPER_GROUPS>(params);
}
