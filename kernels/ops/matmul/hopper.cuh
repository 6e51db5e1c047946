// Many tokens on Hopper: bulk copies bring tiles and activations into shared memory, warpgroups
// multiply.
//
// A block has 8 tiles (128 rows) and N_GROUPS · 8 tokens. Warpgroup 0 gives its registers away, and
// one of its threads copies: a stage is a record of scales and its steps, with the activations of
// these columns; each stage has a barrier that says "full" and one that says "empty". Warpgroups 1
// and 2 have four tiles each, a tile a warp: each lane unpacks its words into the registers of
// operand A, as everywhere else, while operand B is read from shared memory:
//
//   copies    | stage 0 | stage 1 | stage 2 | …          full[i] →        ← empty[i]
//   products            | unpack, wgmma into product 0 | … product 1, add product 0 | …
//
// Sums have the order of product.cuh: a scale group's products from zero, times its scale, added to
// the slice's sum; slice by slice. Whether a warpgroup's sum of 16 products has the bits of an mma's
// is for the device to say (hopper.rs). Bound by the tensor cores for floats, by the scaling in
// f32 for blocks of 32. Executed on the emulated device alone so far.
#pragma once

#include "device/ptx_hopper.cuh"
#include "device/turn.cuh"
#include "ops/matmul/results.cuh"

// Activations of a step of a group of eight tokens: eight cores of 8 tokens × 8 columns, as
// describe_operand has them.
constexpr unsigned GROUP_STEP_BYTES = MATMUL_STEP_COLS * MATMUL_GROUP_TOKENS * 2;
constexpr unsigned CORE_BYTES = 128;
// And of the sums of its two blocks.
constexpr unsigned GROUP_SUM_BYTES = STEP_BLOCKS * MATMUL_GROUP_TOKENS * 4;
constexpr unsigned BLOCK_TILES = MATMUL_HOPPER_TILES;
static_assert(BLOCK_TILES == MATMUL_WARPS, "as Results has them");
// The barrier of the warps that multiply.
constexpr unsigned RESULTS_BARRIER = 1;

// What shared memory begins with; a multiple of 128 bytes.
struct HopperBarriers {
    uint64_t full[MATMUL_HOPPER_MAX_STAGES], empty[MATMUL_HOPPER_MAX_STAGES];
};

// A stage in shared memory, behind the barriers: [tile] integers, [tile] record, [step][group]
// activations, [step][group] sums.
template <typename Tile, int N_GROUPS>
struct HopperStage {
    static constexpr unsigned STEPS = Tile::Scales::RECORD_STEPS;
    static constexpr unsigned QUANT_BYTES = STEPS * Tile::STEP_BYTES;
    static constexpr unsigned RECORD_BYTES = Tile::Scales::RECORD_BYTES;
    static constexpr unsigned SUM_BYTES = Tile::Scales::MINIMA ? GROUP_SUM_BYTES : 0;
    static constexpr unsigned RECORDS_AT = BLOCK_TILES * QUANT_BYTES;
    static constexpr unsigned FRAGMENTS_AT = RECORDS_AT + BLOCK_TILES * RECORD_BYTES;
    static constexpr unsigned SUMS_AT = FRAGMENTS_AT + STEPS * N_GROUPS * GROUP_STEP_BYTES;
    static constexpr unsigned BYTES = SUMS_AT + STEPS * N_GROUPS * SUM_BYTES;
    static constexpr unsigned FITTING = (MATMUL_HOPPER_SHARED_BYTES - sizeof(HopperBarriers)) / BYTES;
    static constexpr unsigned MOST = MATMUL_HOPPER_MAX_STAGES;
    static constexpr unsigned COUNT = FITTING < MOST ? FITTING : MOST;
    static_assert(COUNT >= 2, "one stage is copied while another is used");
};

// The thread that copies.
template <typename Tile, int N_GROUPS>
DEVICE void copy_stages(const MatmulPrefillParams &params, const HopperBarriers &barriers) {
    using Stage = HopperStage<Tile, N_GROUPS>;
    const MatmulWeight &weight = params.weight;
    const unsigned first_place = blockIdx.y * BLOCK_TILES, first_group = blockIdx.x * N_GROUPS;
    const unsigned n_tiles = min(BLOCK_TILES, weight.n_tiles - first_place);
    const unsigned n_groups = min(static_cast<unsigned>(N_GROUPS), params.packed.n_groups - first_group);
    const unsigned n_bytes = n_tiles * (Stage::QUANT_BYTES + Stage::RECORD_BYTES) +
                             Stage::STEPS * n_groups * (GROUP_STEP_BYTES + Stage::SUM_BYTES);
    const uint32_t shared = shared_address(&barriers + 1);
    const auto *fragments = reinterpret_cast<const uint8_t *>(params.packed.fragments);
    const auto *sums = reinterpret_cast<const uint8_t *>(params.packed.sums);
    Turn<Stage::COUNT> turn;
    for (unsigned step = 0; step < weight.n_steps; step += Stage::STEPS, turn.advance()) {
        // In the first round there is nothing to wait for, which the other parity says.
        barrier_wait(shared_address(&barriers.empty[turn.slot]), turn.parity ^ 1u);
        const uint32_t full = shared_address(&barriers.full[turn.slot]);
        const uint32_t stage = shared + turn.slot * Stage::BYTES;
        barrier_arrive_expecting(full, n_bytes);
        for (unsigned i = 0; i < n_tiles; ++i) {
            const unsigned tile = tile_at(params.output, first_place + i);
            const size_t at = static_cast<size_t>(tile) * weight.n_steps + step;
            copy_bulk(stage + i * Stage::QUANT_BYTES, weight.quants + at * Tile::STEP_BYTES,
                      Stage::QUANT_BYTES, full);
            if constexpr (Stage::RECORD_BYTES > 0) {
                copy_bulk(stage + Stage::RECORDS_AT + i * Stage::RECORD_BYTES,
                          weight.scales + at / Stage::STEPS * Stage::RECORD_BYTES,
                          Stage::RECORD_BYTES, full);
            }
        }
        for (unsigned i = 0; i < Stage::STEPS; ++i) {
            const size_t at = static_cast<size_t>(step + i) * params.packed.n_groups + first_group;
            copy_bulk(stage + Stage::FRAGMENTS_AT + i * N_GROUPS * GROUP_STEP_BYTES,
                      fragments + at * GROUP_STEP_BYTES, n_groups * GROUP_STEP_BYTES, full);
            if constexpr (Stage::SUM_BYTES > 0) {
                copy_bulk(stage + Stage::SUMS_AT + i * N_GROUPS * GROUP_SUM_BYTES,
                          sums + at * GROUP_SUM_BYTES, n_groups * GROUP_SUM_BYTES, full);
            }
        }
    }
}

template <bool BF16, int N_GROUPS>
DEVICE void warpgroup_multiply(float (&d)[N_GROUPS][4], const uint32_t (&a)[4], uint64_t b, bool from_zero) {
    if constexpr (BF16) {
        warpgroup_mma_bf16(d, a, b, from_zero);
    } else {
        warpgroup_mma_f16(d, a, b, from_zero);
    }
}

// The sums of blocks in shared memory, [step][group][block][token].
template <int N_GROUPS>
struct StageSums {
    const uint32_t *at; // of the lane's token

    METHOD uint32_t of(unsigned block, unsigned group) const {
        const unsigned step = block / STEP_BLOCKS * N_GROUPS + group;
        return at[(step * STEP_BLOCKS + block % STEP_BLOCKS) * MATMUL_GROUP_TOKENS];
    }
};

// What a warp of a multiplying warpgroup holds.
template <typename Tile, int N_GROUPS>
struct HopperProduct {
    using Stage = HopperStage<Tile, N_GROUPS>;
    using Scales = typename Tile::Scales;
    float sums[N_GROUPS][4];
    Magic magic;
    unsigned lane, tile; // of the block

    // Operand B of 16 columns, those of operand A `operand` of step `index`.
    METHOD uint64_t operand_b(uint32_t stage, unsigned index, unsigned operand) const {
        const uint32_t address = stage + Stage::FRAGMENTS_AT + index * N_GROUPS * GROUP_STEP_BYTES;
        return describe_operand(address + operand * 2 * CORE_BYTES, CORE_BYTES, GROUP_STEP_BYTES);
    }

    METHOD typename Tile::Step step(const uint8_t *stage, unsigned index) const {
        const Cursor cursor = Tile::Step::cursor(stage + tile * Stage::QUANT_BYTES, lane);
        return Tile::Step::template read<Near>(cursor, index * Tile::STEP_BYTES);
    }

    // Floats: all into the sums.
    METHOD void add_floats(const uint8_t *bytes, uint32_t stage) {
        const auto words = step(bytes, 0);
        uint32_t a[STEP_BLOCKS][2][4];
#pragma unroll
        for (int block = 0; block < STEP_BLOCKS; ++block) {
            Tile::operands(words, block, NoScales({}), 0, a[block], magic);
        }
        hold_accumulators(sums);
        warpgroup_fence();
#pragma unroll
        for (int operand = 0; operand < 2 * STEP_BLOCKS; ++operand) {
            warpgroup_multiply<Tile::BF16>(sums, a[operand / 2][operand % 2],
                                           operand_b(stage, 0, operand), false);
        }
        warpgroup_commit();
        warpgroup_wait<0>();
        hold_accumulators(sums);
    }

    // Integers: the next group's products are under way while the last one's are scaled.
    METHOD void add_scaled_groups(const uint8_t *bytes, uint32_t stage) {
        constexpr int UNITS = 32 / Tile::GROUP, N_UNITS = Stage::STEPS * STEP_BLOCKS * UNITS;
        const Scales scales(Scales::template read<Near>(
            Scales::cursor(bytes + Stage::RECORDS_AT + tile * Stage::RECORD_BYTES, lane), 0));
        const auto *block_sums = reinterpret_cast<const uint32_t *>(bytes + Stage::SUMS_AT);
        add_minima<Tile, N_GROUPS>(sums, scales, StageSums<N_GROUPS>{block_sums + lane / 4}, lane, magic);
        float products[2][N_GROUPS][4];
        RowPair factors[2];
        typename Tile::Step words;
        uint32_t a[2][4];
#pragma unroll
        for (int unit = 0; unit < N_UNITS; ++unit) {
            const int block = unit / UNITS, index = block / STEP_BLOCKS, now = unit % 2;
            if (unit % (STEP_BLOCKS * UNITS) == 0) {
                words = step(bytes, index);
            }
            if (unit % UNITS == 0) {
                Tile::operands(words, block % STEP_BLOCKS, scales, index, a, magic);
            }
            factors[now] = scales.factors(unit, magic);
            hold_accumulators(products[now]);
            warpgroup_fence();
#pragma unroll
            for (int i = unit % UNITS; i < unit % UNITS + 2 / UNITS; ++i) {
                const unsigned operand = block % STEP_BLOCKS * 2 + i;
                warpgroup_multiply<Tile::BF16>(products[now], a[i], operand_b(stage, index, operand),
                                               i == unit % UNITS);
            }
            warpgroup_commit();
            if (unit > 0) {
                warpgroup_wait<1>();
                add_product(products[1 - now], factors[1 - now]);
            }
        }
        warpgroup_wait<0>();
        add_product(products[(N_UNITS - 1) % 2], factors[(N_UNITS - 1) % 2]);
    }

    METHOD void add_product(float (&product)[N_GROUPS][4], RowPair factors) {
        hold_accumulators(product);
#pragma unroll
        for (int group = 0; group < N_GROUPS; ++group) {
            add_scaled(sums[group], factors, product[group]);
        }
    }

    METHOD void add_stage(const uint8_t *bytes, uint32_t stage) {
        if constexpr (Tile::GROUP == 0) {
            add_floats(bytes, stage);
        } else {
            add_scaled_groups(bytes, stage);
        }
    }
};

// A warp of the multiplying warpgroups.
template <typename Tile, int N_GROUPS>
DEVICE void multiply_stages(const MatmulPrefillParams &params, const HopperBarriers &barriers) {
    using Stage = HopperStage<Tile, N_GROUPS>;
    const MatmulWeight &weight = params.weight;
    const unsigned lane = threadIdx.x % WARP_LANES;
    HopperProduct<Tile, N_GROUPS> product;
    product.magic = make_magic(params.n_tokens >> 31);
    product.lane = lane;
    product.tile = (threadIdx.x - WARPGROUP_THREADS) / WARP_LANES;
    float totals[N_GROUPS][4];
#pragma unroll
    for (int i = 0; i < 4 * N_GROUPS; ++i) {
        product.sums[i / 4][i % 4] = totals[i / 4][i % 4] = 0.0f;
    }
    const auto *shared = reinterpret_cast<const uint8_t *>(&barriers + 1);
    Turn<Stage::COUNT> turn;
    unsigned slice = 0;
    for (unsigned step = 0; step < weight.n_steps; turn.advance()) {
        barrier_wait(shared_address(&barriers.full[turn.slot]), turn.parity);
        const uint8_t *stage = shared + turn.slot * Stage::BYTES;
        product.add_stage(stage, shared_address(stage));
        __syncwarp();
        if (lane == 0) {
            barrier_arrive(shared_address(&barriers.empty[turn.slot]));
        }
        step += Stage::STEPS;
        if (step == weight.slice_starts[slice + 1]) {
            ++slice;
#pragma unroll
            for (int i = 0; i < 4 * N_GROUPS; ++i) {
                totals[i / 4][i % 4] += product.sums[i / 4][i % 4];
                product.sums[i / 4][i % 4] = 0.0f;
            }
        }
    }
    // The stages are free when all warps are through with them.
    constexpr unsigned N_TOKENS = N_GROUPS * MATMUL_GROUP_TOKENS;
    constexpr unsigned N_THREADS = BLOCK_TILES * WARP_LANES;
    named_barrier(RESULTS_BARRIER, N_THREADS);
    const Results<N_TOKENS, N_THREADS> results = {
        reinterpret_cast<float *>(dynamic_shared<HopperBarriers>() + 1)};
    static_assert(results.BYTES <= Stage::COUNT * Stage::BYTES, "they fit into the stages");
    results.put(product.tile, totals);
    named_barrier(RESULTS_BARRIER, N_THREADS);
    results.finish_all(params, blockIdx.y * BLOCK_TILES, blockIdx.x * N_TOKENS,
                       threadIdx.x - WARPGROUP_THREADS);
}

// Grid: groups of N_GROUPS · 8 tokens × groups of MATMUL_HOPPER_TILES tiles. Block:
// MATMUL_HOPPER_THREADS, with MATMUL_HOPPER_SHARED_BYTES of dynamic shared memory.
template <typename Tile, int N_GROUPS>
DEVICE void matmul_hopper(const MatmulPrefillParams &params) {
    HopperBarriers &barriers = *dynamic_shared<HopperBarriers>();
    if (threadIdx.x == 0) {
        for (unsigned i = 0; i < HopperStage<Tile, N_GROUPS>::COUNT; ++i) {
            barrier_init(shared_address(&barriers.full[i]), 1);
            barrier_init(shared_address(&barriers.empty[i]), BLOCK_TILES);
        }
        barrier_init_fence();
    }
    __syncthreads();
    if (threadIdx.x < WARPGROUP_THREADS) {
        give_registers<40>();
        if (threadIdx.x == 0) {
            copy_stages<Tile, N_GROUPS>(params, barriers);
        }
    } else {
        take_registers<232>();
        multiply_stages<Tile, N_GROUPS>(params, barriers);
    }
}
