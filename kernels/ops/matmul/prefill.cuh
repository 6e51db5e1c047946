// Nine tokens and more: weights and activations go through shared memory.
//
// A block has eight warps, each with a tile of its own, and N_TOKENS tokens, in groups of eight;
// so an integer is unpacked once for all of them. MATMUL_STAGES steps are under way: every warp
// copies its own tile's, all warps together the packed activations (matmul_pack.cu), 16 bytes a
// thread. Records of scales and their sums of activations come with their first step and have
// slots of their own, since a record may serve several steps. One barrier a step.
//
// A warp walks all slices one after the other and adds their sums up in order, as a decode block
// does with its warps': the bits are the same. Bound by the tensor core; each weight is read once
// for N_TOKENS tokens, each activation once for 128 rows.
#pragma once

#include "ops/matmul/output.cuh"
#include "ops/matmul/product.cuh"

// The shared memory of a block.
template <typename Tile, int N_TOKENS>
struct PrefillShape {
    using Scales = typename Tile::Scales;
    static constexpr unsigned N_GROUPS = N_TOKENS / MATMUL_GROUP_TOKENS;
    // Of a step: [warp][step bytes], then [group][2 blocks][32 lanes][16 bytes].
    static constexpr unsigned QUANTS_BYTES = MATMUL_WARPS * Tile::STEP_BYTES;
    static constexpr unsigned GROUP_BYTES = STEP_BLOCKS * WARP_LANES * 16;
    static constexpr unsigned STAGE_BYTES = QUANTS_BYTES + N_GROUPS * GROUP_BYTES;
    // Of a record: [warp][record bytes], then [group][blocks of the record][8 tokens] sums.
    static constexpr unsigned RECORD_BLOCKS = STEP_BLOCKS * Scales::RECORD_STEPS;
    static constexpr unsigned RECORDS_BYTES = MATMUL_WARPS * Scales::RECORD_BYTES;
    static constexpr unsigned GROUP_SUM_BYTES =
        Scales::MINIMA ? RECORD_BLOCKS * MATMUL_GROUP_TOKENS * 4 : 0;
    static constexpr unsigned RECORD_SLOT_BYTES = RECORDS_BYTES + N_GROUPS * GROUP_SUM_BYTES;
    // As many as there are records among the steps under way and the one in use.
    static constexpr unsigned RECORD_SLOTS = MATMUL_STAGES / Scales::RECORD_STEPS + 1;
    static constexpr unsigned BYTES =
        MATMUL_STAGES * STAGE_BYTES + RECORD_SLOTS * RECORD_SLOT_BYTES;
};

// Copies `n_bytes`, a multiple of 16, by `n_threads` threads of which this is number `thread`.
template <unsigned N_BYTES>
DEVICE void copy_async(uint32_t shared, const uint8_t *global, unsigned thread, unsigned n_threads) {
#pragma unroll
    for (unsigned first = 0; first < N_BYTES; first += 16 * n_threads) {
        const unsigned at = first + 16 * thread;
        if (N_BYTES - first >= 16 * n_threads || at < N_BYTES) {
            cp_async_16(shared + at, global + at);
        }
    }
}

template <typename Tile, int N_TOKENS>
struct Pipeline {
    using Shape = PrefillShape<Tile, N_TOKENS>;
    using Scales = typename Tile::Scales;

    const MatmulPrefillParams &params;
    uint8_t *shared;
    const uint8_t *quants, *records, *fragments, *sums;
    unsigned lane, warp, last_group;

    // The block's first group of tokens is `group`, its first tile `tile`; a warp without a tile
    // of its own computes the last one once more, and groups that do not exist are the last.
    METHOD Pipeline(const MatmulPrefillParams &all, unsigned group, unsigned tile)
        : params(all), shared(dynamic_shared<uint8_t>()), lane(threadIdx.x % WARP_LANES),
          warp(threadIdx.x / WARP_LANES), last_group(all.packed.n_groups - 1 - group) {
        const MatmulWeight &weight = params.weight;
        const size_t step = static_cast<size_t>(min(tile + warp, weight.n_tiles - 1)) * weight.n_steps;
        quants = weight.quants + step * Tile::STEP_BYTES;
        records = weight.scales + step / Scales::RECORD_STEPS * Scales::RECORD_BYTES;
        const size_t block = static_cast<size_t>(group) * params.packed.n_blocks;
        fragments = reinterpret_cast<const uint8_t *>(params.packed.fragments) +
                    block * WARP_LANES * 16;
        sums = reinterpret_cast<const uint8_t *>(params.packed.sums) +
               block * MATMUL_GROUP_TOKENS * 4;
    }

    METHOD uint8_t *stage(unsigned step) const {
        return shared + step % MATMUL_STAGES * Shape::STAGE_BYTES;
    }
    METHOD uint8_t *record_slot(unsigned step) const {
        const unsigned slot = step / Scales::RECORD_STEPS % Shape::RECORD_SLOTS;
        return shared + MATMUL_STAGES * Shape::STAGE_BYTES + slot * Shape::RECORD_SLOT_BYTES;
    }

    // Starts to copy step `step`, if there is one; a group of copies in any case.
    METHOD void load(unsigned step) const {
        if (step < params.weight.n_steps) {
            load_step(step);
            if constexpr (Scales::RECORD_BYTES > 0) {
                if (step % Scales::RECORD_STEPS == 0) {
                    load_record(step);
                }
            }
        }
        cp_async_commit();
    }

    METHOD void load_step(unsigned step) const {
        const uint32_t to = shared_address(stage(step));
        copy_async<Tile::STEP_BYTES>(to + warp * Tile::STEP_BYTES,
                                     quants + static_cast<size_t>(step) * Tile::STEP_BYTES, lane,
                                     WARP_LANES);
        const size_t group_stride = static_cast<size_t>(params.packed.n_blocks) * WARP_LANES * 16;
        const uint8_t *from = fragments + static_cast<size_t>(step) * Shape::GROUP_BYTES;
        constexpr unsigned GROUP_COPIES = Shape::GROUP_BYTES / 16;
        constexpr unsigned N_COPIES = Shape::N_GROUPS * GROUP_COPIES;
        static_assert(MATMUL_THREADS % GROUP_COPIES == 0, "a thread keeps its place in a group");
#pragma unroll
        for (unsigned first = 0; first < N_COPIES; first += MATMUL_THREADS) {
            const unsigned copy = first + threadIdx.x, group = copy / GROUP_COPIES;
            if (N_COPIES >= MATMUL_THREADS || copy < N_COPIES) {
                cp_async_16(to + Shape::QUANTS_BYTES + 16 * copy,
                            from + min(group, last_group) * group_stride +
                                copy % GROUP_COPIES * 16);
            }
        }
    }

    METHOD void load_record(unsigned step) const {
        const size_t record = step / Scales::RECORD_STEPS;
        const uint32_t to = shared_address(record_slot(step));
        copy_async<Scales::RECORD_BYTES>(to + warp * Scales::RECORD_BYTES,
                                         records + record * Scales::RECORD_BYTES, lane, WARP_LANES);
        if constexpr (Scales::MINIMA) {
            const size_t group_stride =
                static_cast<size_t>(params.packed.n_blocks) * MATMUL_GROUP_TOKENS * 4;
            constexpr unsigned GROUP_COPIES = Shape::GROUP_SUM_BYTES / 16;
            for (unsigned copy = threadIdx.x; copy < Shape::N_GROUPS * GROUP_COPIES;
                 copy += MATMUL_THREADS) {
                const unsigned group = copy / GROUP_COPIES;
                cp_async_16(to + Shape::RECORDS_BYTES + 16 * copy,
                            sums + record * Shape::GROUP_SUM_BYTES +
                                min(group, last_group) * group_stride + copy % GROUP_COPIES * 16);
            }
        }
    }
};

// The steps of a record; `total` and `sums` as in matmul_prefill.
template <typename Tile, int N_TOKENS>
DEVICE void run_record(const Pipeline<Tile, N_TOKENS> &pipeline, unsigned first_step,
                       float (&sums)[N_TOKENS / MATMUL_GROUP_TOKENS][4], const Magic &magic) {
    using Shape = PrefillShape<Tile, N_TOKENS>;
    using Scales = typename Tile::Scales;
    constexpr int N_GROUPS = Shape::N_GROUPS;
    const unsigned lane = pipeline.lane, warp = pipeline.warp;
    // The first step's copies bring the record.
    cp_async_wait<MATMUL_STAGES - 2>();
    __syncthreads();
    const uint8_t *slot = pipeline.record_slot(first_step);
    Scales scales(Scales::template read<Near>(
        Scales::cursor(slot + warp * Scales::RECORD_BYTES, lane), 0));
    const Sums<MATMUL_GROUP_TOKENS, Shape::GROUP_SUM_BYTES / 4> block_sums = {
        reinterpret_cast<const uint32_t *>(slot + Shape::RECORDS_BYTES) + lane / 4};
    add_minima<Tile, N_GROUPS>(sums, scales, block_sums, lane, magic);
    // Not unrolled: a step's addresses and operands fill the registers.
#pragma unroll 1
    for (unsigned step = first_step; step < first_step + Scales::RECORD_STEPS; ++step) {
        if (step > first_step) {
            cp_async_wait<MATMUL_STAGES - 2>();
            __syncthreads();
        }
        // The stage of the step before is free since the barrier.
        pipeline.load(step + MATMUL_STAGES - 1);
        const uint8_t *stage = pipeline.stage(step);
        const auto quants = Tile::Step::template read<Near>(
            Tile::Step::cursor(stage + warp * Tile::STEP_BYTES, lane), 0);
        const Fragments<WARP_LANES, STEP_BLOCKS * WARP_LANES> fragments = {
            reinterpret_cast<const uint32_t *>(stage + Shape::QUANTS_BYTES) + 4 * lane};
        multiply_step<Tile, N_GROUPS>(sums, quants, scales, 0, fragments, magic);
        scales.next_step();
    }
}

// Grid: groups of N_TOKENS tokens × groups of MATMUL_WARPS tiles. Block: MATMUL_THREADS threads.
// Dynamic shared memory: PrefillShape::BYTES.
template <typename Tile, int N_TOKENS>
DEVICE void matmul_prefill(const MatmulPrefillParams &params) {
    using Scales = typename Tile::Scales;
    constexpr int N_GROUPS = N_TOKENS / MATMUL_GROUP_TOKENS;
    const MatmulWeight &weight = params.weight;
    const unsigned first_group = blockIdx.x * N_GROUPS, first_tile = blockIdx.y * MATMUL_WARPS;
    const Pipeline<Tile, N_TOKENS> pipeline(params, first_group, first_tile);
    const Magic magic = make_magic(params.n_tokens >> 31);
#pragma unroll
    for (unsigned step = 0; step < MATMUL_STAGES - 1; ++step) {
        pipeline.load(step);
    }
    float totals[N_GROUPS][4] = {}, sums[N_GROUPS][4] = {};
    unsigned slice = 1;
    for (unsigned step = 0; step < weight.n_steps; step += Scales::RECORD_STEPS) {
        run_record<Tile, N_TOKENS>(pipeline, step, sums, magic);
        if (step + Scales::RECORD_STEPS == weight.slice_starts[slice]) {
            ++slice;
#pragma unroll
            for (int group = 0; group < N_GROUPS; ++group) {
#pragma unroll
                for (int i = 0; i < 4; ++i) {
                    totals[group][i] += sums[group][i];
                    sums[group][i] = 0.0f;
                }
            }
        }
    }
    const unsigned lane = pipeline.lane;
    const unsigned first_row = (first_tile + pipeline.warp) * MATMUL_TILE_ROWS + lane / 4;
#pragma unroll
    for (int group = 0; group < N_GROUPS; ++group) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            const unsigned row = first_row + i / 2 * 8;
            const unsigned token =
                (first_group + group) * MATMUL_GROUP_TOKENS + lane % 4 * 2 + i % 2;
            if (row < weight.n_rows && token < params.n_tokens) {
                finish(params.output, token, row, totals[group][i] * params.packed.factors[token]);
            }
        }
    }
}
