// Many places: a block takes up to N_TOKENS places of one expert through matmul's pipeline, so
// that the expert's weights are read once for all of them.
//
// Rows are packed once each (matmul_pack.cu, TokenOrder), whatever number of experts they go to;
// a block copies those of its places. The grid depends on the numbers of places and experts alone:
// expert e, whose places begin at offsets[e], has the tiles of places from offsets[e] / N_TOKENS + e
// on, which are enough for it and none of the next expert's, for
//   ⌊(o + c) / N⌋ + 1 − ⌊o / N⌋ ≥ ⌈c / N⌉
//
//   places      | expert 0: 5      | expert 1: 0 | expert 2: 4     |
//   N_TOKENS 4  | 0: four | 1: one | 2: –        | 3: four | 4: –  |
//
// Blocks without places end at once. Sums have the order of matmul_prefill, and so its bits and
// those of moe_decode. Bound by the tensor core where experts have many places, else by the bytes
// of the experts that have any.
#pragma once

#include "ops/matmul/prefill.cuh"
#include "ops/moe_matmul/places.cuh"

// Sums of a lane's tokens: those of block `first` + … of 8, [token][8]; `swap`: the two halves of
// eight stand the other way round, see PlacedRows.
struct PlacedSums {
    const uint32_t *at;
    unsigned first, swap;

    METHOD uint32_t of(unsigned block, unsigned group) const {
        const unsigned in_token = first + block;
        return at[group * MATMUL_GROUP_TOKENS * 8 + (in_token / 4 ^ swap) * 4 + in_token % 4];
    }
};

// The activations of a block's places for Pipeline: those of any rows.
template <typename Tile, int N_TOKENS>
struct PlacedRows {
    using Shape = PrefillShape<Tile, N_TOKENS, true>;
    // Of a step: [group][2 blocks][32 lanes] shares, each thread's copies 16 · MATMUL_THREADS bytes
    // apart.
    static constexpr unsigned N_SHARES = N_TOKENS * 4 * STEP_BLOCKS;
    static constexpr unsigned N_COPIES = (N_SHARES + MATMUL_THREADS - 1) / MATMUL_THREADS;
    // Sums come for four steps at a time, a sector a token, into two slots in turn behind the rest:
    // [slot][token][8 blocks], the halves of tokens 4 to 7 of a group swapped, so that the lanes of
    // a group read from different banks.
    static constexpr unsigned SUM_STEPS = 4, TOKEN_SUM_BYTES = 4 * STEP_BLOCKS * SUM_STEPS;
    static_assert(SUM_STEPS >= MATMUL_STAGES && SUM_STEPS % Tile::Scales::RECORD_STEPS == 0,
                  "two slots serve all steps under way");

    const uint8_t *shares[N_COPIES];
    const uint8_t *sums;

    // `rows` are those of N_TOKENS places.
    METHOD PlacedRows(const MatmulPacked &packed, const unsigned *rows) {
        const size_t n_blocks = packed.n_blocks;
#pragma unroll
        for (unsigned i = 0; i < N_COPIES; ++i) {
            const unsigned copy = i * MATMUL_THREADS + threadIdx.x, lane = copy % WARP_LANES;
            const unsigned group = copy / WARP_LANES / STEP_BLOCKS;
            const unsigned block = copy / WARP_LANES % STEP_BLOCKS;
            const size_t row = rows[(group * MATMUL_GROUP_TOKENS + lane / 4) % N_TOKENS];
            shares[i] = reinterpret_cast<const uint8_t *>(packed.fragments) +
                        (row * n_blocks + block) * 64 + lane % 4 * 16;
        }
        const size_t row = rows[threadIdx.x / 2 % N_TOKENS];
        sums = reinterpret_cast<const uint8_t *>(packed.sums) + row * n_blocks * 4 +
               threadIdx.x % 2 * 16;
    }

    DEVICE uint8_t *sum_slot(uint8_t *shared, unsigned step) {
        return shared + Shape::BYTES + step / SUM_STEPS % 2 * N_TOKENS * TOKEN_SUM_BYTES;
    }

    METHOD void load_step(uint32_t to, unsigned step) const {
        const size_t from = static_cast<size_t>(step) * STEP_BLOCKS * 64;
#pragma unroll
        for (unsigned i = 0; i < N_COPIES; ++i) {
            const unsigned copy = i * MATMUL_THREADS + threadIdx.x;
            if (N_SHARES % MATMUL_THREADS == 0 || copy < N_SHARES) {
                cp_async_16(to + 16 * copy, shares[i] + from);
            }
        }
    }

    METHOD void load_sums(uint8_t *shared, unsigned step) const {
        if (step % SUM_STEPS == 0 && threadIdx.x < 2 * N_TOKENS) {
            const unsigned token = threadIdx.x / 2, half = threadIdx.x % 2 ^ token / 4 % 2;
            cp_async_16(shared_address(sum_slot(shared, step)) + token * TOKEN_SUM_BYTES + 16 * half,
                        sums + static_cast<size_t>(step / SUM_STEPS) * TOKEN_SUM_BYTES);
        }
    }

    DEVICE PlacedSums block_sums(uint8_t *shared, unsigned step, unsigned lane) {
        const uint8_t *token = sum_slot(shared, step) + lane / 4 * TOKEN_SUM_BYTES;
        return {reinterpret_cast<const uint32_t *>(token), step % SUM_STEPS * STEP_BLOCKS,
                lane / 16};
    }
};

// What a block finds out at its start.
template <int N_TOKENS>
struct PlacedBlock {
    ExpertPlaces places;
    unsigned rows[N_TOKENS];
    float factors[N_TOKENS];

    // The places of tile `tile` of places, their rows and those's factors; missing ones have the
    // last's. Ends with a barrier.
    METHOD void find(const MoePrefillParams &params, unsigned tile) {
        const unsigned *offsets = params.places.offsets;
        if (threadIdx.x == 0) {
            places.n_tokens = 0;
        }
        __syncthreads();
        for (unsigned expert = threadIdx.x; expert < params.n_experts; expert += MATMUL_THREADS) {
            const unsigned begin = offsets[expert], end = offsets[expert + 1];
            const unsigned first_tile = begin / N_TOKENS + expert;
            const unsigned first = begin + (tile - first_tile) * N_TOKENS;
            if (tile >= first_tile && first < end) {
                places = {expert, first, min(end - first, unsigned{N_TOKENS})};
            }
        }
        __syncthreads();
        if (threadIdx.x < N_TOKENS && places.n_tokens > 0) {
            const unsigned place = places.first + min(threadIdx.x, places.n_tokens - 1);
            const unsigned row = params.rows == nullptr ? place : params.rows[place];
            rows[threadIdx.x] = row;
            factors[threadIdx.x] = params.packed.factors[row];
        }
        __syncthreads();
    }
};

// Grid: tiles of N_TOKENS places, as many as n_places / N_TOKENS + n_experts × groups of
// MATMUL_WARPS tiles of weights. Block: MATMUL_THREADS threads. Dynamic shared memory:
// PrefillShape::BYTES and, where there are minima, two slots of sums.
template <typename Tile, int N_TOKENS>
DEVICE void moe_prefill(const MoePrefillParams &params) {
    constexpr int N_GROUPS = N_TOKENS / MATMUL_GROUP_TOKENS;
    using Activations = PlacedRows<Tile, N_TOKENS>;
    __shared__ PlacedBlock<N_TOKENS> block;
    block.find(params, blockIdx.x);
    const ExpertPlaces places = block.places;
    if (places.n_tokens == 0) {
        return;
    }
    const MatmulWeight &weight = params.weight;
    const unsigned first_tile = blockIdx.y * MATMUL_WARPS;
    Pipeline<Tile, N_TOKENS, Activations> pipeline(weight, own_place(weight, first_tile),
                                                   Activations(params.packed, block.rows));
    pipeline.quants += places.expert * params.quants_stride;
    pipeline.records += places.expert * params.scales_stride;
    float totals[N_GROUPS][4] = {};
    sum_up(pipeline, weight, totals, make_magic(params.n_experts >> 31));
    MatmulOutput output = params.output;
    places.move(params.places, output);
    const unsigned lane = pipeline.lane;
    const unsigned first_row = (first_tile + pipeline.warp) * MATMUL_TILE_ROWS + lane / 4;
#pragma unroll
    for (int group = 0; group < N_GROUPS; ++group) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            const unsigned row = first_row + i / 2 * 8;
            const unsigned token = group * MATMUL_GROUP_TOKENS + lane % 4 * 2 + i % 2;
            if (row < weight.n_rows && token < places.n_tokens) {
                finish(output, token, row, totals[group][i] * block.factors[token]);
            }
        }
    }
}
