// Where a weight's integer lies in a tile, bit by bit: the layouts of tiles.cuh as functions of row
// and column. Retiling writes by them and embedding rows are read by them. Slow and plain: neither
// is in a hot loop.
#pragma once

#include "ops/matmul/tiles.cuh"

// --- Places -------------------------------------------------------------------------------------

// A weight's place in a step of a tile: half `half` of register `reg` of operand `operand` of lane
// `lane`.
struct Place {
    unsigned lane, operand, reg, half;
};

// Of row `row` of the tile and column `column` of the step.
DEVICE Place place_of(unsigned row, unsigned column) {
    return {row % 8 * 4 + column % 8 / 2, column / 16, row / 8 + column / 8 % 2 * 2, column % 2};
}

// The row and the column of a place: the inverse.
DEVICE unsigned row_of(const Place &place) { return place.lane / 4 + place.reg % 2 * 8; }
DEVICE unsigned column_of(const Place &place) {
    return 16 * place.operand + place.reg / 2 * 8 + place.lane % 4 * 2 + place.half;
}

// Where the bytes of word `word` of a lane begin in a step of `n_words` words a lane.
DEVICE unsigned word_offset(unsigned word, unsigned lane, unsigned n_words) {
    const bool in_four = word / 4 < n_words / 4;
    return in_four ? word / 4 * 512 + lane * 16 + word % 4 * 4 : word * 128 + lane * 4;
}

// --- Bits of integers in a lane's words ---------------------------------------------------------

// A run of bits of an integer: bits from `from` on of the integer stand from `at` on in word `word`.
struct BitRun {
    unsigned word, at, from, n_bits;
};

struct HalfBits {
    static constexpr unsigned N_RUNS = 1, N_WORDS = 16;
    DEVICE BitRun run(unsigned, const Place &p) {
        return {4 * p.operand + p.reg, 16 * p.half, 0, 16};
    }
};
struct ByteBits {
    static constexpr unsigned N_RUNS = 1, N_WORDS = 8;
    DEVICE BitRun run(unsigned, const Place &p) {
        return {2 * p.operand + p.reg / 2, 16 * (p.reg % 2) + 8 * p.half, 0, 8};
    }
};
struct NibbleBits {
    static constexpr unsigned N_RUNS = 1, N_WORDS = 4;
    DEVICE BitRun run(unsigned, const Place &p) {
        return {p.operand, 4 * p.reg + 16 * p.half, 0, 4};
    }
};
struct FiveBits {
    static constexpr unsigned N_RUNS = 2, N_WORDS = 5;
    DEVICE BitRun run(unsigned index, const Place &p) {
        const unsigned fifth = fifth_bit_place(p.operand, p.reg / 2) + p.reg % 2 * 4;
        return index == 0 ? NibbleBits::run(0, p) : BitRun{4, fifth + 16 * p.half, 4, 1};
    }
};
struct SixBits {
    static constexpr unsigned N_RUNS = 2, N_WORDS = 6;
    DEVICE BitRun run(unsigned index, const Place &p) {
        const unsigned word = p.operand / 2 * 3, reg = p.operand % 2 * 4 + p.reg;
        if (reg < 6) { // all six bits are in one place
            return {word + reg / 2, 6 * (reg % 2) + 16 * p.half, 0, index == 0 ? 6u : 0u};
        }
        return index == 0 ? BitRun{word + reg - 6, 12 + 16 * p.half, 0, 4}
                          : BitRun{word + 2, 2 * reg + 16 * p.half, 4, 2};
    }
};
struct Fp4Bits {
    static constexpr unsigned N_RUNS = 2, N_WORDS = 4;
    DEVICE BitRun run(unsigned index, const Place &p) {
        const unsigned number = 2 * p.reg + p.half;
        return index == 0 ? BitRun{p.operand, fp4_magnitude_place(number), 0, 3}
                          : BitRun{p.operand, fp4_sign_place(number), 3, 1};
    }
};
