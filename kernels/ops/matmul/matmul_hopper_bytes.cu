// architectures: 90a
// matmul of many tokens by weights in Q8_0 on Hopper: out = x · Wᵀ; formula in mod.rs, launch
// and what bounds it in hopper.cuh.

#include "ops/matmul/hopper.cuh"

KERNEL(matmul_q8_0_hopper, MatmulPrefillParams, MATMUL_HOPPER_THREADS, 1) {
    matmul_hopper<Q8_0Tile, MATMUL_HOPPER_GROUPS>(params);
}
