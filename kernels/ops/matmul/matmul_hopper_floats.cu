// architectures: 90a
// matmul of many tokens by weights in BF16, F16 and F8_E4M3 on Hopper: out = x · Wᵀ; formula in mod.rs, launch
// and what bounds it in hopper.cuh.

#include "ops/matmul/hopper.cuh"

KERNEL(matmul_bf16_hopper, MatmulPrefillParams, MATMUL_HOPPER_THREADS, 1) {
    matmul_hopper<Bf16Tile, MATMUL_HOPPER_FLOAT_GROUPS>(params);
}

KERNEL(matmul_f16_hopper, MatmulPrefillParams, MATMUL_HOPPER_THREADS, 1) {
    matmul_hopper<F16Tile, MATMUL_HOPPER_FLOAT_GROUPS>(params);
}

KERNEL(matmul_f8_e4m3_hopper, MatmulPrefillParams, MATMUL_HOPPER_THREADS, 1) {
    matmul_hopper<F8E4M3Tile, MATMUL_HOPPER_FLOAT_GROUPS>(params);
}
