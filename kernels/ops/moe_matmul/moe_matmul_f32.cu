// moe_matmul by experts' weights in F32, exactly as they are; formula in mod.rs, launches in
// experts.cuh, arithmetic in ../matmul/f32.cuh.

#include "ops/matmul/f32.cuh"
#include "ops/moe_matmul/places.cuh"

// Grid: groups of MATMUL_WARPS rows × places. Block: MATMUL_THREADS threads.
KERNEL(moe_f32, MoeF32Params, MATMUL_THREADS, 2) {
    const auto places = ExpertPlaces::of(params.places, blockIdx.y);
    if (places.n_tokens == 0) {
        return;
    }
    MatmulInput input = params.first.input;
    MatmulOutput output = params.first.output;
    places.move(params.places, input, output);
    f32_rows(params.first.weights + places.expert * params.weights_stride, params.first.n_rows,
             input, output, 0);
}
