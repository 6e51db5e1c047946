// architectures: 90a
// matmul of many tokens by weights in Q5_0 and Q5_1 on Hopper: out = x · Wᵀ; formula in mod.rs, launch
// and what bounds it in hopper.cuh.

#include "ops/matmul/hopper.cuh"

KERNEL(matmul_q5_0_hopper, MatmulPrefillParams, MATMUL_HOPPER_THREADS, 1) {
    matmul_hopper<Q5_0Tile, MATMUL_HOPPER_GROUPS>(params);
}

KERNEL(matmul_q5_1_hopper, MatmulPrefillParams, MATMUL_HOPPER_THREADS, 1) {
    matmul_hopper<Q5_1Tile, MATMUL_HOPPER_GROUPS>(params);
}
