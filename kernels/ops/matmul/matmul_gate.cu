// matmul_gate: the gates of a product whose gates and gated values are not in tiles beside one
// another: out = activation(gate) · value; formula in mod.rs.
//
// A thread a value. Bound by memory: 3 · 4 bytes a value.

#include "ops/gated/activation.cuh"
#include "ops/matmul/params.h"

// Grid: n_tokens × parts of MATMUL_THREADS columns. Block: MATMUL_THREADS threads.
KERNEL(matmul_gate, MatmulGateParams, MATMUL_THREADS, 1) {
    const unsigned column = blockIdx.y * MATMUL_THREADS + threadIdx.x;
    if (column < params.width) {
        const size_t token = blockIdx.x;
        const float *products = params.products + 2 * token * params.width;
        float *out = params.out + token * params.width + column;
        const float y =
            activate(params.activation, products[column]) * products[params.width + column];
        *out = params.accumulate != 0 ? *out + y : y;
    }
}
