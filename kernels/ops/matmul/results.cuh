// From the registers of a block's warps to the output, by way of shared memory: so that gates meet
// their values, and a token's neighbouring rows are stored together.
#pragma once

#include "ops/matmul/output.cuh"
#include "ops/matmul/product.cuh"

// Of a token of a tile, in words: four more than rows keep a warp's stores on separate banks.
constexpr unsigned RESULT_STRIDE = MATMUL_TILE_ROWS + 4;

// The results of MATMUL_WARPS tiles for N_TOKENS tokens, [tile][token][row], which N_THREADS write.
template <unsigned N_TOKENS, unsigned N_THREADS>
struct Results {
    static constexpr unsigned TILE_WORDS = N_TOKENS * RESULT_STRIDE;
    static constexpr unsigned BYTES = MATMUL_WARPS * TILE_WORDS * sizeof(float);

    float *words;

    // Takes what a warp has summed up of the block's tile `tile`.
    template <int N_GROUPS>
    METHOD void put(unsigned tile, const float (&sums)[N_GROUPS][4]) const {
        const unsigned lane = threadIdx.x % WARP_LANES, token = lane % 4 * 2;
        float *at = words + tile * TILE_WORDS + token * RESULT_STRIDE + lane / 4;
#pragma unroll
        for (int i = 0; i < 4 * N_GROUPS; ++i) {
            const int row = i / 2 % 2 * 8, in_group = i % 2;
            at[(i / 4 * MATMUL_GROUP_TOKENS + in_group) * RESULT_STRIDE + row] = sums[i / 4][i % 4];
        }
    }

    // Writes them: `first_place` is that of the block's first tile, `first_token` its first token.
    METHOD void finish_all(const MatmulPrefillParams &params, unsigned first_place,
                           unsigned first_token, unsigned thread) const {
        if (params.output.n_gate_tiles != 0) {
            finish_each<2>(params, first_place, first_token, thread);
        } else {
            finish_each<1>(params, first_place, first_token, thread);
        }
    }

    // With TILES = 2 tiles for an output: of gates and of their values.
    template <unsigned TILES>
    METHOD void finish_each(const MatmulPrefillParams &params, unsigned first_place,
                            unsigned first_token, unsigned thread) const {
        constexpr unsigned N_ROWS = MATMUL_WARPS / TILES * MATMUL_TILE_ROWS;
        const unsigned n_tokens = min(N_TOKENS, params.n_tokens - first_token);
        for (unsigned i = thread; i < n_tokens * N_ROWS; i += N_THREADS) {
            const unsigned in_tile = i % MATMUL_TILE_ROWS, in_block = i / N_ROWS;
            const unsigned tile = i % N_ROWS / MATMUL_TILE_ROWS * TILES;
            const unsigned place = first_place + tile, token = first_token + in_block;
            const unsigned row = tile_at(params.output, place) * MATMUL_TILE_ROWS + in_tile;
            if (place < params.weight.n_tiles && row < params.weight.n_rows) {
                const float *sum = words + tile * TILE_WORDS + in_block * RESULT_STRIDE + in_tile;
                const float factor = params.packed.factors[token];
                if constexpr (TILES == 2) {
                    const float gate = sum[0] * factor, value = sum[TILE_WORDS] * factor;
                    finish_gated(params.output, token, row, gate, value);
                } else {
                    finish(params.output, token, row, sum[0] * factor);
                }
            }
        }
    }
};
