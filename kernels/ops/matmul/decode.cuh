// Up to eight tokens in one launch: the weights go straight from memory to registers.
//
// A block has eight warps for 8 / n_slices tiles; warp w sums up slice w % n_slices of tile
// w / n_slices. Each weight is loaded once, 16 bytes a lane, into a ring of DEPTH steps whose
// entries are loaded again as soon as they are used, so that a warp has some 4 KiB under way. The
// activations are packed by each block for itself into shared memory, as many columns at a time
// as fit; lanes of absent tokens read those of the last and compute what nobody looks at. Bound by
// the weights' bytes. A block takes every gridDim.x-th group of tiles: with more tokens, whose
// packing costs more, the grid is smaller.
//
// With gates, tiles come in the order of output.cuh, and a block has both tiles of a pair. Where all
// its warps share a tile, it has them one after the other: the grid is as many blocks as there are
// tiles of gates, so that the tile after that of gates i is the one of values i.
#pragma once

#include "ops/matmul/activations.cuh"
#include "ops/matmul/output.cuh"
#include "ops/matmul/product.cuh"

// Sums of a warp, [token][row]; four words more than rows keep the warp's stores on separate banks.
constexpr unsigned PARTIAL_STRIDE = MATMUL_TILE_ROWS + 4;

struct DecodeShared {
    TokenStatistics statistics;
    float partial[MATMUL_WARPS][MATMUL_GROUP_TOKENS * PARTIAL_STRIDE];
    // Of the gates, where a block has their tile before that of the values.
    float gates[MATMUL_GROUP_TOKENS * MATMUL_TILE_ROWS];
};

// The activations in shared memory: [token][place][2 blocks][4 shares], step i of the pass of slice
// s at place s · pass_steps + i; behind them the sums, [token][place][2 blocks]. Four shares and
// four words of nothing behind each token keep the tokens on different banks.
struct Stage {
    uint32_t *fragments, *sums;
    unsigned n_places, token_shares, token_sums;

    DEVICE Stage make(const MatmulDecodeParams &params) {
        Stage stage;
        stage.n_places = params.pass_steps << params.weight.slice_bits;
        stage.token_shares = 4 * STEP_BLOCKS * stage.n_places + 4;
        stage.token_sums = STEP_BLOCKS * stage.n_places + 4;
        stage.fragments = dynamic_shared<uint32_t>();
        stage.sums = stage.fragments + 4 * stage.token_shares * params.input.n_tokens;
        return stage;
    }
};

// Packs the steps from `pass` on of all slices.
template <typename Tile>
DEVICE void stage_pass(const MatmulDecodeParams &params, const Stage &stage, unsigned pass,
                       const TokenStatistics &statistics) {
    constexpr unsigned STEP_SHARES = 4 * STEP_BLOCKS;
    const unsigned n_shares = stage.n_places * STEP_SHARES;
    // Whole warps go round, for the sums.
    const unsigned n_rounded = (n_shares + WARP_LANES - 1) / WARP_LANES * WARP_LANES;
#pragma unroll 1
    for (unsigned token = 0; token < params.input.n_tokens; ++token) {
        const float *row = input_row(params.input, token);
        const float scale = statistics.scale[token].encode;
#pragma unroll 1
        for (unsigned share = threadIdx.x; share < n_rounded; share += MATMUL_THREADS) {
            const unsigned place = share / STEP_SHARES, block = share / 4;
            const unsigned index = pass + place % params.pass_steps;
            const unsigned *slice = params.weight.slice_starts + place / params.pass_steps;
            const unsigned step = slice[0] + index;
            float sum = 0.0f;
            if (share < n_shares && step < slice[1]) {
                const unsigned column =
                    step * MATMUL_STEP_COLS + block % STEP_BLOCKS * 32;
                store_pack<4>(stage.fragments + 4 * (token * stage.token_shares + share),
                              encode_share<Tile::BF16>(params.input, row, column, share % 4, scale,
                                                       sum));
            }
            if constexpr (Tile::Scales::MINIMA) {
                const uint32_t word = split_sum(sum);
                if (share < n_shares && share % 4 == 0) {
                    stage.sums[token * stage.token_sums + block] = word;
                }
            }
        }
    }
}

// The steps of a warp: a ring of loads and what has been summed up.
template <typename Tile, int DEPTH>
struct Stream {
    using Scales = typename Tile::Scales;
    static constexpr int RECORDS = DEPTH / Scales::RECORD_STEPS;

    Cursor quants, records;
    unsigned n_steps, lane;
    typename Tile::Step steps[DEPTH];
    typename Scales::Record scales[RECORDS];
    float sums[1][4];

    METHOD void load_step(int slot) {
        steps[slot] = Tile::Step::template read<Streaming>(quants, slot * Tile::STEP_BYTES);
    }
    METHOD void load_record(int slot) {
        scales[slot] = Scales::template read<Streaming>(records, slot * Scales::RECORD_BYTES);
    }

    METHOD void start(const MatmulWeight &weight, unsigned tile, unsigned slice) {
        const unsigned first = weight.slice_starts[slice];
        const size_t step = static_cast<size_t>(tile) * weight.n_steps + first;
        quants = Tile::Step::cursor(weight.quants + step * Tile::STEP_BYTES, lane);
        records = Scales::cursor(
            weight.scales + step / Scales::RECORD_STEPS * Scales::RECORD_BYTES, lane);
        n_steps = tile < weight.n_tiles ? weight.slice_starts[slice + 1] - first : 0;
#pragma unroll
        for (int i = 0; i < DEPTH; ++i) {
            if (static_cast<unsigned>(i) < n_steps) {
                if (i % Scales::RECORD_STEPS == 0) {
                    load_record(i / Scales::RECORD_STEPS);
                }
                load_step(i);
            }
        }
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            sums[0][i] = 0.0f;
        }
    }

    // Record `slot` of the ring, which begins with step `at`. `RELOAD`: loads the ring's next round
    // in its place, if there is one.
    template <bool RELOAD>
    METHOD void run_record(int slot, unsigned at, Fragments<4, 0> &fragments,
                           Sums<1, 0> &block_sums, const Magic &magic) {
        const bool reload = RELOAD && at + DEPTH < n_steps;
        const Scales factors(scales[slot]);
        if (reload) {
            load_record(slot);
        }
        add_minima<Tile, 1>(sums, factors, block_sums, lane, magic);
#pragma unroll
        for (int index = 0; index < Scales::RECORD_STEPS; ++index) {
            const int step = slot * Scales::RECORD_STEPS + index;
            multiply_step<Tile, 1>(sums, steps[step], factors, index, fragments, magic);
            fragments.advance_step();
            block_sums.advance_step();
            if (reload) {
                load_step(step);
            }
        }
    }

    // Steps `first` to `end` of the slice, whose activations `fragments` and `block_sums` begin
    // with; `first` is a multiple of DEPTH, and so is `end` unless the slice ends there.
    METHOD void run(unsigned first, unsigned end, Fragments<4, 0> fragments,
                    Sums<1, 0> block_sums, const Magic &magic) {
        const unsigned last = min(end, n_steps);
        unsigned base = first;
        for (; base + DEPTH <= last; base += DEPTH) {
            quants.advance(DEPTH * Tile::STEP_BYTES);
            records.advance(RECORDS * Scales::RECORD_BYTES);
#pragma unroll
            for (int slot = 0; slot < RECORDS; ++slot) {
                run_record<true>(slot, base + slot * Scales::RECORD_STEPS, fragments, block_sums,
                                 magic);
            }
        }
#pragma unroll
        for (int slot = 0; slot + 1 < RECORDS; ++slot) {
            if (base + slot * Scales::RECORD_STEPS < last) {
                run_record<false>(slot, base, fragments, block_sums, magic);
            }
        }
    }
};

// The tile at `place`; behind the last, none is.
template <bool GATES>
DEVICE unsigned decode_tile(const MatmulDecodeParams &params, unsigned place) {
    const bool alone = !GATES || 1u << params.weight.slice_bits == MATMUL_WARPS;
    return alone ? place : tile_at(params.output, place);
}

// The sum of a row of the group's tile `tile`: its slices in their order, times the token's factor.
DEVICE float sum_slices(const DecodeShared &shared, unsigned n_slices, unsigned tile, unsigned token,
                        unsigned in_tile) {
    float sum = 0.0f;
#pragma unroll 1
    for (unsigned slice = 0; slice < n_slices; ++slice) {
        sum += shared.partial[tile * n_slices + slice][token * PARTIAL_STRIDE + in_tile];
    }
    return sum * shared.statistics.scale[token].decode;
}

// Writes the results of the tiles from `first_place` on.
template <bool GATES>
DEVICE void finish_tiles(const MatmulDecodeParams &params, unsigned first_place,
                         DecodeShared &shared) {
    const MatmulOutput &output = params.output;
    const unsigned n_slices = 1u << params.weight.slice_bits, n_tiles = MATMUL_WARPS / n_slices;
    const unsigned n_gates = GATES ? output.n_gate_tiles * MATMUL_TILE_ROWS : 0;
    const bool gated = n_gates != 0;
    // Gates beside their values are done with them.
    const unsigned stride = gated && n_tiles > 1 ? 2 : 1;
    // Absent tokens are passed over, and nothing is unrolled: what the loops would keep at hand holds
    // registers from the first step on. (Experts' parameters are not at hand in any case.)
    const unsigned most_tokens = MATMUL_GROUP_TOKENS;
    const unsigned token_places = GATES ? most_tokens : params.input.n_tokens;
    const unsigned n_values = n_tiles / stride * token_places * MATMUL_TILE_ROWS;
#pragma unroll 1
    for (unsigned i = threadIdx.x; i < n_values; i += MATMUL_THREADS) {
        const unsigned in_tile = i % MATMUL_TILE_ROWS;
        const unsigned token = i / MATMUL_TILE_ROWS % token_places;
        const unsigned tile = i / MATMUL_TILE_ROWS / token_places * stride;
        const unsigned row = decode_tile<GATES>(params, first_place + tile) * MATMUL_TILE_ROWS + in_tile;
        if (token >= params.input.n_tokens || row >= params.weight.n_rows) {
            continue;
        }
        const float sum = sum_slices(shared, n_slices, tile, token, in_tile);
        if (!gated) {
            finish(output, token, row, sum);
        } else if constexpr (GATES) {
            if (stride == 2) {
                finish_gated(output, token, row, sum,
                             sum_slices(shared, n_slices, tile + 1, token, in_tile));
            } else if (row < n_gates) {
                shared.gates[i] = sum; // for the same thread
            } else {
                finish_gated(output, token, row - n_gates, shared.gates[i], sum);
            }
        }
    }
}

// Grid: at most a block a group of 8 / n_slices tiles; with gates and 8 slices n_gate_tiles. Block:
// MATMUL_THREADS threads. Dynamic shared memory: n_tokens · (n_slices · pass_steps · (128 + 8) + 64
// + 16) bytes. `pass_steps` covers a slice or is a multiple of DEPTH. GATES: there may be some.
template <typename Tile, int DEPTH, bool GATES = false>
DEVICE void matmul_decode(const MatmulDecodeParams &params) {
    using Scales = typename Tile::Scales;
    static_assert(DEPTH % Scales::RECORD_STEPS == 0, "a ring holds whole records");
    static_assert(MATMUL_DECODE_DEPTH % DEPTH == 0, "a pass has whole rounds of the ring");
    __shared__ DecodeShared shared;
    const unsigned lane = threadIdx.x % WARP_LANES, warp = threadIdx.x / WARP_LANES;
    const unsigned slice_bits = params.weight.slice_bits, n_tokens = params.input.n_tokens;
    const unsigned tiles_a_group = MATMUL_WARPS >> slice_bits;
    const unsigned slice = warp & ((1u << slice_bits) - 1);
    const Magic magic = make_magic(n_tokens >> 31);

    Stream<Tile, DEPTH> stream;
    stream.lane = lane;
    for (unsigned group = blockIdx.x; group * tiles_a_group < params.weight.n_tiles;
         group += gridDim.x) {
        // The first weights are on their way while the activations are packed.
        const unsigned place = group * tiles_a_group + (warp >> slice_bits);
        stream.start(params.weight, decode_tile<GATES>(params, place), slice);
        for (unsigned pass = 0; pass < params.longest_slice; pass += params.pass_steps) {
            const Stage stage = Stage::make(params);
            // All columns at once stay for the other tiles.
            const bool resident = params.pass_steps >= params.longest_slice;
            if (!resident || group == blockIdx.x) {
                if (group == blockIdx.x && pass == 0) {
                    scale_tokens<Tile::BF16>(params.input, 0, n_tokens, shared.statistics);
                }
                stage_pass<Tile>(params, stage, pass, shared.statistics);
                __syncthreads();
            }
            const unsigned token = min(lane / 4, n_tokens - 1);
            const unsigned block = slice * params.pass_steps * STEP_BLOCKS;
            const unsigned share = token * stage.token_shares + 4 * block + lane % 4;
            stream.run(pass, pass + params.pass_steps, {stage.fragments + 4 * share},
                       {stage.sums + token * stage.token_sums + block}, magic);
            if (!resident) {
                __syncthreads();
            }
        }
        float *partial = shared.partial[warp] + lane % 4 * 2 * PARTIAL_STRIDE + lane / 4;
        partial[0] = stream.sums[0][0];
        partial[PARTIAL_STRIDE] = stream.sums[0][1];
        partial[8] = stream.sums[0][2];
        partial[PARTIAL_STRIDE + 8] = stream.sums[0][3];
        __syncthreads();
        finish_tiles<GATES>(params, group * tiles_a_group, shared);
        __syncthreads();
    }
}
