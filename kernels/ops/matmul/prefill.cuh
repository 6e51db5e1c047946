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

#include "ops/matmul/results.cuh"

// The shared memory of a block; SUMS_APART: activations keep their sums behind it.
template <typename Tile, int N_TOKENS, bool SUMS_APART = false>
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
        Scales::MINIMA && !SUMS_APART ? RECORD_BLOCKS * MATMUL_GROUP_TOKENS * 4 : 0;
    static constexpr unsigned RECORD_SLOT_BYTES = RECORDS_BYTES + N_GROUPS * GROUP_SUM_BYTES;
    // As many as there are records among the steps under way and the one in use.
    static constexpr unsigned RECORD_SLOTS = MATMUL_STAGES / Scales::RECORD_STEPS + 1;
    static constexpr unsigned BYTES =
        MATMUL_STAGES * STAGE_BYTES + RECORD_SLOTS * RECORD_SLOT_BYTES;

    DEVICE uint8_t *stage(uint8_t *shared, unsigned step) {
        return shared + step % MATMUL_STAGES * STAGE_BYTES;
    }
    DEVICE uint8_t *record_slot(uint8_t *shared, unsigned step) {
        const unsigned slot = step / Scales::RECORD_STEPS % RECORD_SLOTS;
        return shared + MATMUL_STAGES * STAGE_BYTES + slot * RECORD_SLOT_BYTES;
    }
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

// The activations of a block's groups of tokens as they were packed; groups that do not exist are
// the last. A class like this is what Pipeline asks for its activations.
template <typename Tile, int N_TOKENS>
struct TokenGroups {
    using Shape = PrefillShape<Tile, N_TOKENS>;

    const uint8_t *fragments, *sums;
    unsigned n_blocks, last_group;

    METHOD TokenGroups(const MatmulPacked &packed, unsigned group)
        : n_blocks(packed.n_blocks), last_group(packed.n_groups - 1 - group) {
        const size_t block = static_cast<size_t>(group) * n_blocks;
        fragments = reinterpret_cast<const uint8_t *>(packed.fragments) + block * WARP_LANES * 16;
        sums = reinterpret_cast<const uint8_t *>(packed.sums) + block * MATMUL_GROUP_TOKENS * 4;
    }

    // Starts to copy the fragments of step `step` to `to`.
    METHOD void load_step(uint32_t to, unsigned step) const {
        const size_t group_stride = static_cast<size_t>(n_blocks) * WARP_LANES * 16;
        const uint8_t *from = fragments + static_cast<size_t>(step) * Shape::GROUP_BYTES;
        constexpr unsigned GROUP_COPIES = Shape::GROUP_BYTES / 16;
        constexpr unsigned N_COPIES = Shape::N_GROUPS * GROUP_COPIES;
        static_assert(MATMUL_THREADS % GROUP_COPIES == 0, "a thread keeps its place in a group");
#pragma unroll
        for (unsigned first = 0; first < N_COPIES; first += MATMUL_THREADS) {
            const unsigned copy = first + threadIdx.x, group = copy / GROUP_COPIES;
            if (N_COPIES >= MATMUL_THREADS || copy < N_COPIES) {
                cp_async_16(to + 16 * copy, from + min(group, last_group) * group_stride +
                                                copy % GROUP_COPIES * 16);
            }
        }
    }

    // And the sums of the record of that step, into its slot.
    METHOD void load_sums(uint8_t *shared, unsigned step) const {
        const size_t record = step / Tile::Scales::RECORD_STEPS;
        const uint32_t to = shared_address(Shape::record_slot(shared, step) + Shape::RECORDS_BYTES);
        const size_t group_stride = static_cast<size_t>(n_blocks) * MATMUL_GROUP_TOKENS * 4;
        constexpr unsigned GROUP_COPIES = Shape::GROUP_SUM_BYTES / 16;
        for (unsigned copy = threadIdx.x; copy < Shape::N_GROUPS * GROUP_COPIES;
             copy += MATMUL_THREADS) {
            const unsigned group = copy / GROUP_COPIES;
            cp_async_16(to + 16 * copy, sums + record * Shape::GROUP_SUM_BYTES +
                                            min(group, last_group) * group_stride +
                                            copy % GROUP_COPIES * 16);
        }
    }

    // Those of a lane's token, which have arrived.
    DEVICE Sums<MATMUL_GROUP_TOKENS, Shape::GROUP_SUM_BYTES / 4> block_sums(uint8_t *shared,
                                                                            unsigned step,
                                                                            unsigned lane) {
        const uint8_t *slot = Shape::record_slot(shared, step);
        return {reinterpret_cast<const uint32_t *>(slot + Shape::RECORDS_BYTES) + lane / 4};
    }
};

// The place of a warp's tile in a block whose first is `first`; a warp without one of its own computes
// the last one once more.
DEVICE unsigned own_place(const MatmulWeight &weight, unsigned first) {
    return min(first + threadIdx.x / WARP_LANES, weight.n_tiles - 1);
}

template <typename Tile, int N_TOKENS, typename Activations>
struct Pipeline {
    using Shape = typename Activations::Shape;
    using Scales = typename Tile::Scales;

    uint8_t *shared;
    const uint8_t *quants, *records;
    unsigned n_steps, lane, warp;
    Activations activations;

    // `tile` is the warp's.
    METHOD Pipeline(const MatmulWeight &weight, unsigned tile, const Activations &own)
        : shared(dynamic_shared<uint8_t>()), n_steps(weight.n_steps),
          lane(threadIdx.x % WARP_LANES), warp(threadIdx.x / WARP_LANES), activations(own) {
        const size_t step = static_cast<size_t>(tile) * n_steps;
        quants = weight.quants + step * Tile::STEP_BYTES;
        records = weight.scales + step / Scales::RECORD_STEPS * Scales::RECORD_BYTES;
    }

    // Starts to copy step `step`, if there is one; a group of copies in any case.
    METHOD void load(unsigned step) const {
        if (step < n_steps) {
            const uint32_t to = shared_address(Shape::stage(shared, step));
            copy_async<Tile::STEP_BYTES>(to + warp * Tile::STEP_BYTES,
                                         quants + static_cast<size_t>(step) * Tile::STEP_BYTES,
                                         lane, WARP_LANES);
            activations.load_step(to + Shape::QUANTS_BYTES, step);
            if constexpr (Scales::RECORD_BYTES > 0) {
                if (step % Scales::RECORD_STEPS == 0) {
                    load_record(step);
                }
            }
        }
        cp_async_commit();
    }

    METHOD void load_record(unsigned step) const {
        const size_t record = step / Scales::RECORD_STEPS;
        const uint32_t to = shared_address(Shape::record_slot(shared, step));
        copy_async<Scales::RECORD_BYTES>(to + warp * Scales::RECORD_BYTES,
                                         records + record * Scales::RECORD_BYTES, lane, WARP_LANES);
        if constexpr (Scales::MINIMA) {
            activations.load_sums(shared, step);
        }
    }
};

// The steps of a record; `sums` as in sum_up.
template <typename Tile, int N_TOKENS, typename Activations>
DEVICE void run_record(const Pipeline<Tile, N_TOKENS, Activations> &pipeline, unsigned first_step,
                       float (&sums)[N_TOKENS / MATMUL_GROUP_TOKENS][4], const Magic &magic) {
    using Shape = typename Activations::Shape;
    using Scales = typename Tile::Scales;
    constexpr int N_GROUPS = Shape::N_GROUPS;
    const unsigned lane = pipeline.lane, warp = pipeline.warp;
    // The first step's copies bring the record.
    cp_async_wait<MATMUL_STAGES - 2>();
    __syncthreads();
    const uint8_t *slot = Shape::record_slot(pipeline.shared, first_step);
    Scales scales(Scales::template read<Near>(
        Scales::cursor(slot + warp * Scales::RECORD_BYTES, lane), 0));
    const auto block_sums = Activations::block_sums(pipeline.shared, first_step, lane);
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
        const uint8_t *stage = Shape::stage(pipeline.shared, step);
        const auto quants = Tile::Step::template read<Near>(
            Tile::Step::cursor(stage + warp * Tile::STEP_BYTES, lane), 0);
        const Fragments<WARP_LANES, STEP_BLOCKS * WARP_LANES> fragments = {
            reinterpret_cast<const uint32_t *>(stage + Shape::QUANTS_BYTES) + 4 * lane};
        multiply_step<Tile, N_GROUPS>(sums, quants, scales, 0, fragments, magic);
        scales.next_step();
    }
}

// Adds up a warp's tile times the block's tokens, slice by slice: `totals`, zero before.
template <typename Tile, int N_TOKENS, typename Activations>
DEVICE void sum_up(const Pipeline<Tile, N_TOKENS, Activations> &pipeline, const MatmulWeight &weight,
                   float (&totals)[N_TOKENS / MATMUL_GROUP_TOKENS][4], const Magic &magic) {
    constexpr int N_GROUPS = N_TOKENS / MATMUL_GROUP_TOKENS;
    constexpr unsigned RECORD_STEPS = Tile::Scales::RECORD_STEPS;
#pragma unroll
    for (unsigned step = 0; step < MATMUL_STAGES - 1; ++step) {
        pipeline.load(step);
    }
    float sums[N_GROUPS][4] = {};
    unsigned slice = 1;
    for (unsigned step = 0; step < weight.n_steps; step += RECORD_STEPS) {
        run_record(pipeline, step, sums, magic);
        if (step + RECORD_STEPS == weight.slice_starts[slice]) {
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
}

// Grid: groups of N_TOKENS tokens × groups of MATMUL_WARPS tiles. Block: MATMUL_THREADS threads.
// Dynamic shared memory: PrefillShape::BYTES.
template <typename Tile, int N_TOKENS>
DEVICE void matmul_prefill(const MatmulPrefillParams &params) {
    constexpr int N_GROUPS = N_TOKENS / MATMUL_GROUP_TOKENS;
    using Activations = TokenGroups<Tile, N_TOKENS>;
    const MatmulWeight &weight = params.weight;
    const unsigned first_group = blockIdx.x * N_GROUPS, first_place = blockIdx.y * MATMUL_WARPS;
    const unsigned tile = tile_at(params.output, own_place(weight, first_place));
    const Pipeline<Tile, N_TOKENS, Activations> pipeline(weight, tile,
                                                         Activations(params.packed, first_group));
    float totals[N_GROUPS][4] = {};
    sum_up(pipeline, weight, totals, make_magic(params.n_tokens >> 31));
    // The stages are free when all warps are through with them.
    __syncthreads();
    const Results<N_TOKENS, MATMUL_THREADS> results = {reinterpret_cast<float *>(pipeline.shared)};
    static_assert(results.BYTES <= PrefillShape<Tile, N_TOKENS>::BYTES, "they fit into the stages");
    results.put(pipeline.warp, totals);
    __syncthreads();
    results.finish_all(params, first_place, blockIdx.x * N_TOKENS, threadIdx.x);
}
