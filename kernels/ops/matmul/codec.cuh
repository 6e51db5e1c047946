// Each format twice over: how its blocks (the source, quant/) hold a weight, and what a weight in a
// tile is worth. Retiling reads the one and writes the other; embedding rows are read back from
// tiles.
#pragma once

#include "ops/matmul/places.cuh"

// Rows of native blocks, as many as a tile has or fewer.
struct Source {
    const uint8_t *first_row;
    unsigned n_rows, row_bytes, cols;

    // The block of `column`; null outside the matrix.
    template <unsigned LEN, unsigned N_BYTES>
    METHOD const uint8_t *block(unsigned row, unsigned column) const {
        if (row >= n_rows || column >= cols) {
            return nullptr;
        }
        return first_row + static_cast<size_t>(row) * row_bytes +
               static_cast<size_t>(column / LEN) * N_BYTES;
    }
};

DEVICE uint32_t half_at(const uint8_t *bytes) { return bytes[0] | bytes[1] << 8; }
DEVICE uint32_t word_at(const uint8_t *bytes) { return half_at(bytes) | half_at(bytes + 2) << 16; }
DEVICE float half_value(const uint8_t *bytes) { return low_half(half_at(bytes)); }
DEVICE void put_word(uint8_t *record, unsigned word, uint32_t value) {
    reinterpret_cast<uint32_t *>(record)[word] = value;
}

// Integer `i` of 32 whose nibbles are in 16 bytes, low ones first.
DEVICE uint32_t nibble_of_32(const uint8_t *bytes, unsigned i) {
    return bytes[i % 16] >> 4 * (i / 16) & 15u;
}
// Integer `i` of a super-block of Q4_K or Q5_K.
DEVICE uint32_t nibble_of_256(const uint8_t *bytes, unsigned i) {
    return bytes[i / 64 * 32 + i % 32] >> 4 * (i / 32 % 2) & 15u;
}

// A format: `integer` is what tiles hold of weight `i` of a block; `write_record` writes the part
// of rows g and g + 8 of a record that begins at `column`; `value` is the weight of integer `q` in
// row `row` and column `column` of the record, with the products and sums of quant/.
template <unsigned LENGTH, unsigned SIZE, typename BitsType, typename ScalesType>
struct Codec {
    static constexpr unsigned LEN = LENGTH, N_BYTES = SIZE;
    using Bits = BitsType;
    using Scales = ScalesType;

    DEVICE const uint8_t *block(const Source &source, unsigned row, unsigned column) {
        return source.block<LEN, N_BYTES>(row, column);
    }
    // Bytes at `offset` of the blocks of rows g and g + 8, as a pair of 16 or 8 bits.
    DEVICE uint32_t half_pair(const Source &source, unsigned g, unsigned column, unsigned offset) {
        const uint8_t *low = block(source, g, column), *high = block(source, g + 8, column);
        return (low == nullptr ? 0u : half_at(low + offset)) |
               (high == nullptr ? 0u : half_at(high + offset)) << 16;
    }
    DEVICE uint32_t byte_pair(const Source &source, unsigned g, unsigned column, unsigned offset) {
        const uint8_t *low = block(source, g, column), *high = block(source, g + 8, column);
        return (low == nullptr ? 0u : low[offset]) | (high == nullptr ? 0u : high[offset]) << 8;
    }
    // Half `word` of a record's words for row `row`, where words are pairs of rows g and g + 8.
    DEVICE float pair_value(const uint8_t *record, unsigned n_words, unsigned word, unsigned row) {
        return half_value(record + row % 8 * 4 * n_words + 4 * word + row / 8 * 2);
    }
};

struct F16Codec : Codec<1, 2, HalfBits, NoScales> {
    DEVICE uint32_t integer(const uint8_t *block, unsigned) { return half_at(block); }
    DEVICE void write_record(uint8_t *, unsigned, const Source &, unsigned) {}
    DEVICE float value(uint32_t q, const uint8_t *, unsigned, unsigned) { return low_half(q); }
};

struct Bf16Codec : Codec<1, 2, HalfBits, NoScales> {
    DEVICE uint32_t integer(const uint8_t *block, unsigned) { return half_at(block); }
    DEVICE void write_record(uint8_t *, unsigned, const Source &, unsigned) {}
    DEVICE float value(uint32_t q, const uint8_t *, unsigned, unsigned) {
        return __uint_as_float(q << 16);
    }
};

struct F8E4M3Codec : Codec<1, 1, ByteBits, NoScales> {
    DEVICE uint32_t integer(const uint8_t *block, unsigned) { return *block; }
    DEVICE void write_record(uint8_t *, unsigned, const Source &, unsigned) {}
    // 2^120 moves the bias of the exponent from 7 to 127 and makes subnormal numbers normal.
    DEVICE float value(uint32_t q, const uint8_t *, unsigned, unsigned) {
        const float magnitude = __uint_as_float((q & 0x7fu) << 20) * 0x1p120f;
        const float finite = (q & 0x80u) != 0 ? -magnitude : magnitude;
        return (q & 0x7fu) == 0x7fu ? __uint_as_float(0x7fc00000u | q >> 7 << 31) : finite;
    }
};

// Blocks of 32 with a scale at their start and integers from byte INTEGERS on; those of five bits
// have the fifth ones from byte FIFTHS on.
template <unsigned SIZE, typename BitsType, unsigned INTEGERS, int OFFSET, unsigned FIFTHS = 0>
struct ScaledCodec : Codec<32, SIZE, BitsType, BlockScales> {
    using Base = Codec<32, SIZE, BitsType, BlockScales>;

    DEVICE uint32_t integer(const uint8_t *block, unsigned i) {
        if constexpr (SIZE == 34) {
            return block[INTEGERS + i] ^ 0x80u;
        }
        const uint32_t fifth = FIFTHS == 0 ? 0u : word_at(block + FIFTHS) >> i & 1u;
        return nibble_of_32(block + INTEGERS, i) | fifth << 4;
    }
    DEVICE void write_record(uint8_t *record, unsigned g, const Source &source, unsigned column) {
        put_word(record, 2 * g, Base::half_pair(source, g, column, 0));
        put_word(record, 2 * g + 1, Base::half_pair(source, g, column + 32, 0));
    }
    DEVICE float value(uint32_t q, const uint8_t *record, unsigned row, unsigned column) {
        return Base::pair_value(record, 2, column / 32, row) *
               static_cast<float>(static_cast<int>(q) - OFFSET);
    }
};
using Q4_0Codec = ScaledCodec<18, NibbleBits, 2, 8>;
using Q5_0Codec = ScaledCodec<22, FiveBits, 6, 16, 2>;
using Q8_0Codec = ScaledCodec<34, ByteBits, 2, 128>;

// And a minimum behind the scale.
template <unsigned SIZE, typename BitsType, unsigned INTEGERS, unsigned FIFTHS = 0>
struct MinimumCodec : Codec<32, SIZE, BitsType, BlockMinima> {
    using Base = Codec<32, SIZE, BitsType, BlockMinima>;

    DEVICE uint32_t integer(const uint8_t *block, unsigned i) {
        const uint32_t fifth = FIFTHS == 0 ? 0u : word_at(block + FIFTHS) >> i & 1u;
        return nibble_of_32(block + INTEGERS, i) | fifth << 4;
    }
    DEVICE void write_record(uint8_t *record, unsigned g, const Source &source, unsigned column) {
        for (unsigned i = 0; i < 4; ++i) {
            put_word(record, 4 * g + i,
                     Base::half_pair(source, g, column + i % 2 * 32, i / 2 * 2));
        }
    }
    DEVICE float value(uint32_t q, const uint8_t *record, unsigned row, unsigned column) {
        const float d = Base::pair_value(record, 4, column / 32, row);
        return d * static_cast<float>(q) + Base::pair_value(record, 4, 2 + column / 32, row);
    }
};
using Q4_1Codec = MinimumCodec<20, NibbleBits, 4>;
using Q5_1Codec = MinimumCodec<24, FiveBits, 8, 4>;

// Q4_K and Q5_K, whose headers stay as they are.
template <unsigned SIZE, typename BitsType, unsigned INTEGERS, unsigned FIFTHS = 0>
struct SuperCodec : Codec<256, SIZE, BitsType, SuperScales> {
    using Base = Codec<256, SIZE, BitsType, SuperScales>;

    DEVICE uint32_t integer(const uint8_t *block, unsigned i) {
        const uint32_t fifth = FIFTHS == 0 ? 0u : block[FIFTHS + i % 32] >> i / 32 & 1u;
        return nibble_of_256(block + INTEGERS, i) | fifth << 4;
    }
    DEVICE void write_record(uint8_t *record, unsigned g, const Source &source, unsigned column) {
        for (unsigned row = g; row < MATMUL_TILE_ROWS; row += 8) {
            const uint8_t *block = Base::block(source, row, column);
            for (unsigned i = 0; i < 4; ++i) {
                put_word(record, 4 * row + i, block == nullptr ? 0u : word_at(block + 4 * i));
            }
        }
    }
    DEVICE float value(uint32_t q, const uint8_t *record, unsigned row, unsigned column) {
        const uint8_t *header = record + 16 * row;
        const uint32_t words[3] = {word_at(header + 4), word_at(header + 8), word_at(header + 12)};
        uint32_t scales[2], minima[2];
        unpack_scales(words, scales, minima);
        const unsigned group = column / 32, shift = group % 4 * 8;
        const float scale = half_value(header) * static_cast<float>(scales[group / 4] >> shift & 255u);
        const float minimum =
            half_value(header + 2) * static_cast<float>(minima[group / 4] >> shift & 255u);
        return scale * static_cast<float>(q) - minimum;
    }
};
using Q4_KCodec = SuperCodec<144, NibbleBits, 16>;
using Q5_KCodec = SuperCodec<176, FiveBits, 48, 16>;

struct Q6_KCodec : Codec<256, 210, SixBits, SixBitScales> {
    DEVICE uint32_t integer(const uint8_t *block, unsigned i) {
        const uint32_t low = block[i / 128 * 64 + i % 64] >> 4 * (i / 64 % 2) & 15u;
        const uint32_t high = block[128 + i / 128 * 32 + i % 32] >> 2 * (i / 32 % 4) & 3u;
        return low | high << 4;
    }
    DEVICE void write_record(uint8_t *record, unsigned g, const Source &source, unsigned column) {
        for (unsigned row = g; row < MATMUL_TILE_ROWS; row += 8) {
            const uint8_t *scales = block(source, row, column);
            for (unsigned i = 0; i < 4; ++i) {
                const uint32_t word = scales == nullptr ? 0u : word_at(scales + 192 + 4 * i);
                put_word(record, 4 * row + i, word ^ 0x80808080u);
            }
        }
        put_word(record, 64 + g, half_pair(source, g, column, 208));
    }
    DEVICE float value(uint32_t q, const uint8_t *record, unsigned row, unsigned column) {
        const float d = pair_value(record + 256, 1, 0, row);
        const int scale = static_cast<int>(record[16 * row + column / 16]) - 128;
        return d * static_cast<float>(scale) * static_cast<float>(static_cast<int>(q) - 32);
    }
};

// MXFP4: `integer` is the four bits of the number, the record holds exponents.
struct Mxfp4Codec : Codec<32, 17, Fp4Bits, ExponentScales> {
    DEVICE uint32_t integer(const uint8_t *block, unsigned i) { return nibble_of_32(block + 1, i); }
    DEVICE void write_record(uint8_t *record, unsigned g, const Source &source, unsigned column) {
        put_word(record, g,
                 byte_pair(source, g, column, 0) | byte_pair(source, g, column + 32, 0) << 16);
    }
    DEVICE float value(uint32_t q, const uint8_t *record, unsigned row, unsigned column) {
        const uint32_t e = record[row % 8 * 4 + column / 32 * 2 + row / 8];
        // Half the scale, since the doubled number is whole; the least are subnormal.
        const uint32_t bits = e < 2 ? 0x00200000u << e : e == 255 ? 0x7fc00000u : (e - 1) << 23;
        const uint32_t m = q & 7u;
        const uint32_t doubled = m < 4 ? m : (2 + m % 2) << (m / 2 - 1);
        const float signed_value = static_cast<float>((q & 8u) != 0 ? -static_cast<int>(doubled)
                                                                    : static_cast<int>(doubled));
        return __uint_as_float(bits) * signed_value;
    }
};

// Four-bit integers with a zero point, in blocks of 32 or 128.
template <unsigned LENGTH, typename ScalesType>
struct Int4Codec : Codec<LENGTH, LENGTH / 2 + 3, NibbleBits, ScalesType> {
    using Base = Codec<LENGTH, LENGTH / 2 + 3, NibbleBits, ScalesType>;

    DEVICE uint32_t integer(const uint8_t *block, unsigned i) {
        return nibble_of_32(block + 3 + i / 32 * 16, i % 32);
    }
    DEVICE void write_record(uint8_t *record, unsigned g, const Source &source, unsigned column) {
        if constexpr (LENGTH == 32) {
            put_word(record, 2 * g, Base::half_pair(source, g, column, 0));
            put_word(record, 2 * g + 1, Base::half_pair(source, g, column + 32, 0));
            put_word(record, 16 + g,
                     Base::byte_pair(source, g, column, 2) |
                         Base::byte_pair(source, g, column + 32, 2) << 16);
        } else {
            put_word(record, 2 * g, Base::half_pair(source, g, column, 0));
            put_word(record, 2 * g + 1, Base::byte_pair(source, g, column, 2));
        }
    }
    DEVICE float value(uint32_t q, const uint8_t *record, unsigned row, unsigned column) {
        const unsigned block = LENGTH == 32 ? column / 32 : 0;
        const float d = Base::pair_value(record, 2, block, row);
        const uint8_t *zeros = LENGTH == 32 ? record + 64 + row % 8 * 4 + 2 * block
                                            : record + row % 8 * 8 + 4;
        return d * static_cast<float>(q) - d * static_cast<float>(zeros[row / 8]);
    }
};
using Int4G32Codec = Int4Codec<32, ZeroScales>;
using Int4G128Codec = Int4Codec<128, WideZeroScales>;
