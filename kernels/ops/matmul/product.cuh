// The arithmetic of a warp: a tile times groups of eight tokens, step by step.
//
// Decode and prefill kernels both go through here, so a token's sums have the same order, and the
// same bits, in all of them:
//   the integers of a scale group times the activations, exact products summed up in f32 by the
//   tensor core, from zero; times the group's scale, added to the slice's sum; slice by slice.
#pragma once

#include "ops/matmul/tiles.cuh"

// Operands B of a warp: 16 bytes a lane for each block of 32 columns and each group of tokens,
// the registers of the block's two mma. Strides in lanes' shares of 16 bytes.
template <unsigned BLOCK_STRIDE, unsigned GROUP_STRIDE>
struct Fragments {
    const uint32_t *at;

    METHOD Pack<uint32_t, 4> of(unsigned block, unsigned group) const {
        return load_pack<4>(at + 4 * (block * BLOCK_STRIDE + group * GROUP_STRIDE));
    }
    METHOD void advance_step() { at += 4 * STEP_BLOCKS * BLOCK_STRIDE; }
};

// The sums of blocks of activations of the token of column g, see split_sum. Strides in words.
template <unsigned BLOCK_STRIDE, unsigned GROUP_STRIDE>
struct Sums {
    const uint32_t *at;

    METHOD uint32_t of(unsigned block, unsigned group) const {
        return at[block * BLOCK_STRIDE + group * GROUP_STRIDE];
    }
    METHOD void advance_step() { at += STEP_BLOCKS * BLOCK_STRIDE; }
};

template <bool BF16>
DEVICE void multiply(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    if constexpr (BF16) {
        mma_bf16(d, a, b0, b1);
    } else {
        mma_f16(d, a, b0, b1);
    }
}

// sum += factors · product, row by row.
DEVICE void add_scaled(float (&sum)[4], RowPair factors, const float (&product)[4]) {
    sum[0] = fmaf(factors.low, product[0], sum[0]);
    sum[1] = fmaf(factors.low, product[1], sum[1]);
    sum[2] = fmaf(factors.high, product[2], sum[2]);
    sum[3] = fmaf(factors.high, product[3], sum[3]);
}

// Adds the products of step `index` of its record; the step's first block is block 0 of
// `fragments`.
template <typename Tile, int N_GROUPS, typename B>
DEVICE void multiply_step(float (&sums)[N_GROUPS][4], const typename Tile::Step &step,
                          const typename Tile::Scales &scales, int index,
                          const B &fragments, const Magic &magic) {
#pragma unroll
    for (int block = 0; block < STEP_BLOCKS; ++block) {
        uint32_t a[2][4];
        Tile::operands(step, block, scales, index, a, magic);
        RowPair factors[2] = {};
        if constexpr (Tile::GROUP == 32) {
            factors[0] = scales.factors(STEP_BLOCKS * index + block, magic);
        } else if constexpr (Tile::GROUP == 16) {
            factors[0] = scales.factors(2 * (STEP_BLOCKS * index + block), magic);
            factors[1] = scales.factors(2 * (STEP_BLOCKS * index + block) + 1, magic);
        }
#pragma unroll
        for (int group = 0; group < N_GROUPS; ++group) {
            const auto b = fragments.of(block, group);
            if constexpr (Tile::GROUP == 0) {
                multiply<Tile::BF16>(sums[group], a[0], b.lane[0], b.lane[1]);
                multiply<Tile::BF16>(sums[group], a[1], b.lane[2], b.lane[3]);
            } else if constexpr (Tile::GROUP == 32) {
                float product[4] = {};
                multiply<Tile::BF16>(product, a[0], b.lane[0], b.lane[1]);
                multiply<Tile::BF16>(product, a[1], b.lane[2], b.lane[3]);
                add_scaled(sums[group], factors[0], product);
            } else {
                float product[2][4] = {};
                multiply<Tile::BF16>(product[0], a[0], b.lane[0], b.lane[1]);
                multiply<Tile::BF16>(product[1], a[1], b.lane[2], b.lane[3]);
                add_scaled(sums[group], factors[0], product[0]);
                add_scaled(sums[group], factors[1], product[1]);
            }
        }
    }
}

// Adds minimum · (sum of the activations) for the blocks of a record, before its first step. The
// record's first block is block 0 of `block_sums`.
template <typename Tile, int N_GROUPS, typename BlockSums>
DEVICE void add_minima(float (&sums)[N_GROUPS][4], const typename Tile::Scales &scales,
                       const BlockSums &block_sums, unsigned lane, const Magic &magic) {
    if constexpr (Tile::Scales::MINIMA) {
        constexpr unsigned N_BLOCKS = STEP_BLOCKS * Tile::Scales::RECORD_STEPS;
        const unsigned block = lane % 4;
        uint32_t a[4];
        scales.minima(lane, a, magic);
#pragma unroll
        for (int group = 0; group < N_GROUPS; ++group) {
            float product[4] = {};
            if constexpr (N_BLOCKS > 4) {
                mma_f16(product, a, block_sums.of(block, group), block_sums.of(block + 4, group));
            } else {
                const uint32_t sum = block_sums.of(block % N_BLOCKS, group);
                mma_f16(product, a, block < N_BLOCKS ? sum : 0, 0);
            }
            add_scaled(sums[group], scales.minimum_factors(), product);
        }
    }
}
