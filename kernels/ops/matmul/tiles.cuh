// How a weight matrix lies in device memory, and how a warp reads it.
//
// A tile is 16 rows, a step 64 columns of it: four operands A of mma.m16n8k16. The integers lie in
// fragment order, so that a lane's words are its registers: with g = lane / 4 and t = lane % 4,
// half e of register i of operand m holds row g + 8 (i & 1), column 16 m + 2t + e + 8 (i >> 1).
//
//   quants  [tile][step]            words of a lane   what a word holds
//   F16, BF16     2048 bytes        4 m + i           register i of operand m
//   Q8_0          1024              2 m + i/2         bytes q ^ 0x80 of registers i and i + 1
//   F8_E4M3       1024              2 m + i/2         likewise, the number's own byte
//   Q4_0 _1 _K     512              m                 nibble i of each half: register i
//   INT4           512              m                 likewise
//   MXFP4          512              m                 fp4_magnitude_place, fp4_sign_place
//   Q5_0 _1 _K     640              m; 4              as before; fifth bits, fifth_bit_place
//   Q6_K           768              3 b + 0, 1, 2     operands 2 b and 2 b + 1, unpack_six_bits
//
// Words 4 n … 4 n + 3 of all lanes are 512 consecutive bytes, a 16-byte load each; words beyond
// the last whole four follow one by one, 128 bytes each:
//
//   | lane 0: w0 w1 w2 w3 | lane 1: w0 w1 w2 w3 | … | lane 31 | lane 0: w4 | lane 1: w4 | …
//
//   scales  [tile][record]                     with g = 0 … 7 and r = 0 … 15
//   Q4_0 Q5_0 Q8_0    64 bytes, each step       [g] [block of 32]: d of rows g, g + 8
//   Q4_1 Q5_1        128 bytes, each step       [g] d, d, m, m: likewise
//   Q4_K Q5_K        256 bytes, each 4 steps    [r] d, dmin, 12 bytes as in the file
//   Q6_K             288 bytes, each 4 steps    [r] 16 scales ^ 0x80, then [g] d of rows g, g + 8
//   MXFP4             32 bytes, each step       [g] [block of 32]: exponents of rows g, g + 8
//   INT4_G32          96 bytes, each step       [g] as Q4_0, then [g] as MXFP4: zero points
//   INT4_G128         64 bytes, each 2 steps    [g] d of rows g, g + 8, their zero points, 2 of 0
//
// Nothing grows but by rows and columns of zeros that fill the last tile and the last record.
#pragma once

#include "ops/matmul/scales.cuh"

// A lane's words of a step.
template <int N_BYTES>
struct Quants {
    static constexpr int N_WORDS = N_BYTES / 128;
    uint32_t words[N_WORDS];

    DEVICE Cursor cursor(const uint8_t *steps, unsigned lane) {
        return {steps + 16 * lane, steps + 4 * lane};
    }
    template <typename Reader>
    DEVICE Quants read(const Cursor &cursor, unsigned offset) {
        Quants quants;
#pragma unroll
        for (int i = 0; i + 4 <= N_WORDS; i += 4) {
            Reader::four(quants.words + i, cursor.wide + offset + 128 * i);
        }
#pragma unroll
        for (int i = N_WORDS / 4 * 4; i < N_WORDS; ++i) {
            quants.words[i] = Reader::one(cursor.narrow + offset + 128 * i);
        }
        return quants;
    }
};

// What the kernels ask of a format: sizes, its scales, and the operands of a block of 32 columns,
// those of step `index` of a record, from a lane's words. GROUP columns share a scale; 0 where there
// are none.
template <int N_STEP_BYTES, int N_GROUP, typename ScaleType, bool IS_BF16 = false>
struct TileShape {
    static constexpr int STEP_BYTES = N_STEP_BYTES, GROUP = N_GROUP;
    static constexpr bool BF16 = IS_BF16;
    using Scales = ScaleType;
    using Step = Quants<N_STEP_BYTES>;
};

template <bool IS_BF16>
struct HalfTile : TileShape<MATMUL_HALF_STEP_BYTES, 0, NoScales, IS_BF16> {
    template <typename Step>
    DEVICE void operands(const Step &step, int block, const NoScales &, int, uint32_t (&a)[2][4],
                         const Magic &) {
#pragma unroll
        for (int i = 0; i < 8; ++i) {
            a[i / 4][i % 4] = step.words[8 * block + i];
        }
    }
};

struct ByteTile : TileShape<MATMUL_BYTES_STEP_BYTES, 32, BlockScales> {
    DEVICE void operands(const Step &step, int block, const BlockScales &, int,
                         uint32_t (&a)[2][4], const Magic &magic) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            unpack_bytes(step.words[4 * block + i], &a[i / 2][i % 2 * 2], magic);
        }
    }
};

struct F8Tile : TileShape<MATMUL_BYTES_STEP_BYTES, 0, NoScales> {
    DEVICE void operands(const Step &step, int block, const NoScales &, int, uint32_t (&a)[2][4],
                         const Magic &) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            unpack_f8(step.words[4 * block + i], &a[i / 2][i % 2 * 2]);
        }
    }
};

template <int OFFSET, typename ScaleType>
struct NibbleTile : TileShape<MATMUL_NIBBLES_STEP_BYTES, 32, ScaleType> {
    template <typename Step>
    DEVICE void operands(const Step &step, int block, const ScaleType &, int,
                         uint32_t (&a)[2][4], const Magic &magic) {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
            unpack_nibbles<OFFSET>(step.words[2 * block + i], a[i], magic);
        }
    }
};

template <typename ScaleType>
struct ZeroTile : TileShape<MATMUL_NIBBLES_STEP_BYTES, 32, ScaleType> {
    template <typename Step>
    DEVICE void operands(const Step &step, int block, const ScaleType &scales, int index,
                         uint32_t (&a)[2][4], const Magic &magic) {
        const uint32_t zeros = scales.zeros(STEP_BLOCKS * index + block);
#pragma unroll
        for (int i = 0; i < 2; ++i) {
            unpack_zero_nibbles(step.words[2 * block + i], zeros, a[i], magic);
        }
    }
};

struct Fp4Tile : TileShape<MATMUL_NIBBLES_STEP_BYTES, 32, ExponentScales> {
    DEVICE void operands(const Step &step, int block, const ExponentScales &, int,
                         uint32_t (&a)[2][4], const Magic &) {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
            unpack_fp4(step.words[2 * block + i], a[i]);
        }
    }
};

template <int OFFSET, typename ScaleType>
struct FiveBitTile : TileShape<MATMUL_FIVE_BITS_STEP_BYTES, 32, ScaleType> {
    template <typename Step>
    DEVICE void operands(const Step &step, int block, const ScaleType &, int,
                         uint32_t (&a)[2][4], const Magic &magic) {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
            const int operand = 2 * block + i;
            unpack_five_bits<OFFSET>(step.words[operand], step.words[4], operand, a[i], magic);
        }
    }
};

struct SixBitTile : TileShape<MATMUL_Q6_K_STEP_BYTES, 16, SixBitScales> {
    DEVICE void operands(const Step &step, int block, const SixBitScales &, int,
                         uint32_t (&a)[2][4], const Magic &magic) {
        unpack_six_bits(step.words + 3 * block, a, magic);
    }
};

using F16Tile = HalfTile<false>;
using Bf16Tile = HalfTile<true>;
using Q8_0Tile = ByteTile;
using F8E4M3Tile = F8Tile;
using Q4_0Tile = NibbleTile<8, BlockScales>;
using Q4_1Tile = NibbleTile<0, BlockMinima>;
using Q4_KTile = NibbleTile<0, SuperScales>;
using Mxfp4Tile = Fp4Tile;
using Int4G32Tile = ZeroTile<ZeroScales>;
using Int4G128Tile = ZeroTile<WideZeroScales>;
using Q5_0Tile = FiveBitTile<16, BlockScales>;
using Q5_1Tile = FiveBitTile<0, BlockMinima>;
using Q5_KTile = FiveBitTile<0, SuperScales>;
using Q6_KTile = SixBitTile;
