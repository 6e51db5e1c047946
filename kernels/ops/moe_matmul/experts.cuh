// A block's expert, group of places and group of tiles: matmul's decode kernel with its parameters
// in shared memory.
#pragma once

#include "ops/matmul/decode.cuh"
#include "ops/moe_matmul/places.cuh"

// Grid: blocks as for matmul_decode × places. Block and dynamic shared memory: as for
// matmul_decode with `first`.
template <typename Tile, int DEPTH>
DEVICE void moe_decode(const MoeDecodeParams &params) {
    __shared__ MatmulDecodeParams own;
    const auto places = ExpertPlaces::of(params.places, blockIdx.y);
    if (places.n_tokens == 0) {
        return;
    }
    if (threadIdx.x == 0) {
        own = params.first;
        own.weight.quants += places.expert * params.quants_stride;
        own.weight.scales += places.expert * params.scales_stride;
        places.move(params.places, own.input, own.output);
    }
    __syncthreads();
    // Of an address that it knows, the compiler would keep the values in registers, and spill.
    const MatmulDecodeParams *mine = &own + opaque(0);
    matmul_decode<Tile, DEPTH>(*mine);
}
