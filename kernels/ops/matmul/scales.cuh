// The scales of a tile's records (drawn in tiles.cuh), as a lane uses them: factors of its rows
// g and g + 8, g = lane / 4, in f32.
//
// Each kind has a `Record`, the words as they are loaded, which may be under way for long, and is
// made from one when the first of the record's steps is computed. `factors` are those of a group of
// the record, counted from the first step or from the one that `next_step` has moved on to. With `MINIMA` it also gives an
// operand A for the mma that adds Σ minimum · (sum of the activations): column 2 t and 2 t + 1
// meet the high and the low part of block t's sum, columns 2 t + 8 and 2 t + 9 of block t + 4's
// (activations.cuh), times `minimum_factors`.
#pragma once

#include "device/dequant.cuh"
#include "device/memory.cuh"
#include "ops/matmul/params.h"

constexpr int STEP_BLOCKS = 2; // of 32 columns

// What the activations' sums are divided by, so that they fit into f16.
constexpr float SUM_UNIT = 32.0f;

// Where a lane reads: one pointer for its 16-byte loads, one for narrower ones. They move on
// together, so that every load's offset from them is a constant.
struct Cursor {
    const uint8_t *wide, *narrow;

    METHOD void advance(unsigned n_bytes) {
        wide += n_bytes;
        narrow += n_bytes;
    }
};

// Reads words that a kernel uses once, from global memory.
struct Streaming {
    DEVICE void four(uint32_t *words, const uint8_t *address) {
        const uint4 loaded = load_streaming(address);
        words[0] = loaded.x;
        words[1] = loaded.y;
        words[2] = loaded.z;
        words[3] = loaded.w;
    }
    // Past the caches there are only loads of 16 and of 4 bytes.
    DEVICE Pack<uint32_t, 2> two(const uint8_t *address) {
        return load_pack<2>(reinterpret_cast<const uint32_t *>(address));
    }
    DEVICE uint32_t one(const uint8_t *address) { return load_streaming_word(address); }
};

// Reads words from shared memory, or through the caches.
struct Near {
    DEVICE void four(uint32_t *words, const uint8_t *address) {
        const auto loaded = load_pack<4>(reinterpret_cast<const uint32_t *>(address));
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            words[i] = loaded.lane[i];
        }
    }
    DEVICE Pack<uint32_t, 2> two(const uint8_t *address) {
        return load_pack<2>(reinterpret_cast<const uint32_t *>(address));
    }
    DEVICE uint32_t one(const uint8_t *address) {
        return *reinterpret_cast<const uint32_t *>(address);
    }
};

// Factors of the rows g and g + 8.
struct RowPair {
    float low, high;
};

// A lane's words of a record; N_WORDS from its row's or rows' place on.
template <int N_WORDS>
struct Words {
    uint32_t words[N_WORDS];
};

// Floats have none.
struct NoScales {
    static constexpr int RECORD_BYTES = 0, RECORD_STEPS = 1;
    static constexpr bool MINIMA = false;
    struct Record {};

    DEVICE Cursor cursor(const uint8_t *records, unsigned) { return {records, records}; }
    template <typename Reader>
    DEVICE Record read(const Cursor &, unsigned) {
        return {};
    }
    METHOD NoScales(const Record &) {}
    METHOD void next_step() {}
};

// A scale for each block of 32.
struct BlockScales {
    static constexpr int RECORD_BYTES = MATMUL_SCALE_RECORD_BYTES, RECORD_STEPS = 1;
    static constexpr bool MINIMA = false;
    using Record = Words<2>;

    DEVICE Cursor cursor(const uint8_t *records, unsigned lane) {
        return {records, records + lane / 4 * 8};
    }
    template <typename Reader>
    DEVICE Record read(const Cursor &cursor, unsigned offset) {
        const auto words = Reader::two(cursor.narrow + offset);
        return {{words.lane[0], words.lane[1]}};
    }

    Record d;

    METHOD BlockScales(const Record &record) : d(record) {}
    METHOD void next_step() {}
    METHOD RowPair factors(int group, const Magic &) const {
        return {low_half(d.words[group]), high_half(d.words[group])};
    }
};

// And a minimum. Only lanes with t < 2 have a block of the record's two; what the others hold
// meets sums of zero.
struct BlockMinima {
    static constexpr int RECORD_BYTES = MATMUL_MINIMUM_RECORD_BYTES, RECORD_STEPS = 1;
    static constexpr bool MINIMA = true;
    using Record = Words<4>;

    DEVICE Cursor cursor(const uint8_t *records, unsigned lane) {
        return {records + lane / 4 * 16, records};
    }
    template <typename Reader>
    DEVICE Record read(const Cursor &cursor, unsigned offset) {
        Record result;
        Reader::four(result.words, cursor.wide + offset);
        return result;
    }

    Record d_m;

    METHOD BlockMinima(const Record &record) : d_m(record) {}
    METHOD void next_step() {}
    METHOD RowPair factors(int group, const Magic &) const {
        return {low_half(d_m.words[group]), high_half(d_m.words[group])};
    }
    METHOD void minima(unsigned lane, uint32_t (&a)[4], const Magic &) const {
        const uint32_t rows = lane % 2 == 0 ? d_m.words[2] : d_m.words[3];
        a[0] = __byte_perm(rows, 0, 0x1010);
        a[1] = __byte_perm(rows, 0, 0x3232);
        a[2] = a[3] = 0;
    }
    METHOD RowPair minimum_factors() const { return {SUM_UNIT, SUM_UNIT}; }
};

// Q4_K and Q5_K: eight groups of 32 with scales and minima of six bits.
struct SuperScales {
    static constexpr int RECORD_BYTES = MATMUL_K_QUANT_RECORD_BYTES;
    static constexpr int RECORD_STEPS = MATMUL_SUPER_BLOCK_STEPS;
    static constexpr bool MINIMA = true;
    using Record = Words<8>; // the headers of both rows

    DEVICE Cursor cursor(const uint8_t *records, unsigned lane) {
        return {records + lane / 4 * 16, records};
    }
    template <typename Reader>
    DEVICE Record read(const Cursor &cursor, unsigned offset) {
        Record result;
        Reader::four(result.words, cursor.wide + offset);
        Reader::four(result.words + 4, cursor.wide + offset + RECORD_BYTES / 2);
        return result;
    }

    float d[2], minus_32768_d[2], dmin[2];
    uint32_t scales[2][2], mins[2][2]; // of each row: groups 0 to 3, 4 to 7

    METHOD SuperScales(const Record &record) {
#pragma unroll
        for (int row = 0; row < 2; ++row) {
            const uint32_t *header = record.words + 4 * row;
            d[row] = low_half(header[0]);
            minus_32768_d[row] = -32768.0f * d[row];
            dmin[row] = high_half(header[0]);
            unpack_scales(header + 1, scales[row], mins[row]);
        }
    }
    METHOD RowPair factors(int group, const Magic &magic) const {
        float factor[2];
#pragma unroll
        for (int row = 0; row < 2; ++row) {
            const float biased = biased_byte(scales[row][group / 4], group % 4, magic);
            factor[row] = fmaf(d[row], biased, minus_32768_d[row]);
        }
        return {factor[0], factor[1]};
    }
    METHOD void minima(unsigned lane, uint32_t (&a)[4], const Magic &magic) const {
        // Byte t into the low byte of both halves, under those of 1024.
        const uint32_t selector = 0x5050u | lane % 4 * 0x0101u;
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            a[i] = unbias<0>(__byte_perm(mins[i & 1][i >> 1], magic.f16, selector));
        }
    }
    METHOD RowPair minimum_factors() const { return {-SUM_UNIT * dmin[0], -SUM_UNIT * dmin[1]}; }
    METHOD void next_step() {
#pragma unroll
        for (int row = 0; row < 2; ++row) {
            scales[row][0] = __funnelshift_r(scales[row][0], scales[row][1], 16);
            scales[row][1] >>= 16;
        }
    }
};

// Q6_K: sixteen groups of 16 with signed scales of eight bits.
struct SixBitScales {
    static constexpr int RECORD_BYTES = MATMUL_Q6_K_RECORD_BYTES;
    static constexpr int RECORD_STEPS = MATMUL_SUPER_BLOCK_STEPS;
    static constexpr bool MINIMA = false;
    using Record = Words<9>; // the scales of both rows, their d

    DEVICE Cursor cursor(const uint8_t *records, unsigned lane) {
        return {records + lane / 4 * 16, records + lane / 4 * 4};
    }
    template <typename Reader>
    DEVICE Record read(const Cursor &cursor, unsigned offset) {
        Record result;
        Reader::four(result.words, cursor.wide + offset);
        Reader::four(result.words + 4, cursor.wide + offset + 128);
        result.words[8] = Reader::one(cursor.narrow + offset + 256);
        return result;
    }

    float d[2], minus_32896_d[2];
    uint32_t scales[8];

    METHOD SixBitScales(const Record &record)
        : d{low_half(record.words[8]), high_half(record.words[8])},
          minus_32896_d{-32896.0f * d[0], -32896.0f * d[1]} {
#pragma unroll
        for (int i = 0; i < 8; ++i) {
            scales[i] = record.words[i];
        }
    }
    METHOD RowPair factors(int group, const Magic &magic) const {
        float factor[2];
#pragma unroll
        for (int row = 0; row < 2; ++row) {
            const float biased = biased_byte(scales[4 * row + group / 4], group % 4, magic);
            factor[row] = fmaf(d[row], biased, minus_32896_d[row]);
        }
        return {factor[0], factor[1]};
    }
    METHOD void next_step() {
#pragma unroll
        for (int i = 0; i < 3; ++i) {
            scales[i] = scales[i + 1];
            scales[i + 4] = scales[i + 5];
        }
    }
};

// MXFP4: a power of two for each block of 32, the exponent of an f32. 0 makes zero of 2^-127; 255,
// which is NaN, does not come so far (MatrixSource::check_weights).
struct ExponentScales {
    static constexpr int RECORD_BYTES = MATMUL_EXPONENT_RECORD_BYTES, RECORD_STEPS = 1;
    static constexpr bool MINIMA = false;
    using Record = Words<1>; // bytes: block 0 of rows g, g + 8, block 1 of both

    DEVICE Cursor cursor(const uint8_t *records, unsigned lane) {
        return {records, records + lane / 4 * 4};
    }
    template <typename Reader>
    DEVICE Record read(const Cursor &cursor, unsigned offset) {
        return {{Reader::one(cursor.narrow + offset)}};
    }

    Record exponents;

    METHOD ExponentScales(const Record &record) : exponents(record) {}
    METHOD void next_step() {}
    METHOD RowPair factors(int group, const Magic &) const {
        const uint32_t word = exponents.words[0] >> 16 * group;
        return {__uint_as_float(word << 23 & 0x7f800000u), __uint_as_float(word << 15 & 0x7f800000u)};
    }
};

// INT4 in blocks of 32: a scale and a zero point, which is what the integers are less by.
struct ZeroScales {
    static constexpr int RECORD_BYTES = MATMUL_ZERO_RECORD_BYTES, RECORD_STEPS = 1;
    static constexpr bool MINIMA = false;
    using Record = Words<3>; // d of both blocks, zero points as ExponentScales has exponents

    DEVICE Cursor cursor(const uint8_t *records, unsigned lane) {
        return {records + lane / 4 * 8, records + lane / 4 * 4};
    }
    template <typename Reader>
    DEVICE Record read(const Cursor &cursor, unsigned offset) {
        const auto d = Reader::two(cursor.wide + offset);
        return {{d.lane[0], d.lane[1], Reader::one(cursor.narrow + offset + 64)}};
    }

    Record record;

    METHOD ZeroScales(const Record &loaded) : record(loaded) {}
    METHOD void next_step() {}
    METHOD RowPair factors(int group, const Magic &) const {
        return {low_half(record.words[group]), high_half(record.words[group])};
    }
    // The zero points of a block: row g in bits 0 to 7, row g + 8 in bits 8 to 15.
    METHOD uint32_t zeros(int group) const { return record.words[2] >> 16 * group; }
};

// INT4 in blocks of 128, four in the same way.
struct WideZeroScales {
    static constexpr int RECORD_BYTES = MATMUL_WIDE_ZERO_RECORD_BYTES;
    static constexpr int RECORD_STEPS = MATMUL_WIDE_ZERO_STEPS;
    static constexpr bool MINIMA = false;
    using Record = Words<2>; // d, zero points

    DEVICE Cursor cursor(const uint8_t *records, unsigned lane) {
        return {records, records + lane / 4 * 8};
    }
    template <typename Reader>
    DEVICE Record read(const Cursor &cursor, unsigned offset) {
        const auto words = Reader::two(cursor.narrow + offset);
        return {{words.lane[0], words.lane[1]}};
    }

    Record record;

    METHOD WideZeroScales(const Record &loaded) : record(loaded) {}
    METHOD RowPair factors(int, const Magic &) const {
        return {low_half(record.words[0]), high_half(record.words[0])};
    }
    METHOD uint32_t zeros(int) const { return record.words[1]; }
    METHOD void next_step() {}
};
