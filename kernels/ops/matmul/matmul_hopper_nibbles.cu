// architectures: 90a
// matmul of many tokens by weights in Q4_0, Q4_1, MXFP4 and INT4 on Hopper: out = x · Wᵀ; formula in mod.rs, launch
// and what bounds it in hopper.cuh.

#include "ops/matmul/hopper.cuh"

KERNEL(matmul_q4_0_hopper, MatmulPrefillParams, MATMUL_HOPPER_THREADS, 1) {
    matmul_hopper<Q4_0Tile, MATMUL_HOPPER_GROUPS>(params);
}

KERNEL(matmul_q4_1_hopper, MatmulPrefillParams, MATMUL_HOPPER_THREADS, 1) {
    matmul_hopper<Q4_1Tile, MATMUL_HOPPER_GROUPS>(params);
}

KERNEL(matmul_mxfp4_hopper, MatmulPrefillParams, MATMUL_HOPPER_THREADS, 1) {
    matmul_hopper<Mxfp4Tile, MATMUL_HOPPER_GROUPS>(params);
}

KERNEL(matmul_int4_g32_hopper, MatmulPrefillParams, MATMUL_HOPPER_THREADS, 1) {
    matmul_hopper<Int4G32Tile, MATMUL_HOPPER_GROUPS>(params);
}

KERNEL(matmul_int4_g128_hopper, MatmulPrefillParams, MATMUL_HOPPER_THREADS, 1) {
    matmul_hopper<Int4G128Tile, MATMUL_HOPPER_GROUPS>(params);
}
