// Integers of quantised weights → pairs of f16 for the tensor core, exactly, without a
// conversion instruction.
//
// The trick: an integer q < 1024 in the mantissa of 0x6400 is the f16 number 1024 + q. Adding
// −1024 (and minus the format's offset) leaves q as a normal f16. An integer four bits higher
// in the mantissa is 1024 + 16 q, which one fma turns into q all the same and spares the shift.
// Only bits are moved besides, two weights at a time: `half` is the 16-bit half of a register,
// `register` one of the four of a 16 × 16 operand (ptx.cuh).
#pragma once

#include "device/ptx.cuh"

// Constants that must stay in registers: (w & immediate) | register is one instruction. The
// assembler would see through a constant that hides in the source, so `zero` has to come from
// memory, as zero.
struct Magic {
    uint32_t f16; // 1024 in both halves
    uint32_t f32; // 32768, whose mantissa ends in a byte of ones
};

DEVICE Magic make_magic(uint32_t zero) { return {0x64006400u + zero, 0x47000000u + zero}; }

// A whole number of at most 2048 as a pair of equal f16, at compile time: both signs, exact.
DEVICE constexpr uint32_t f16_pair(int value) {
    const uint32_t magnitude = static_cast<uint32_t>(value < 0 ? -value : value);
    uint32_t exponent = 0;
    while (magnitude >> exponent > 1) {
        ++exponent;
    }
    const uint32_t mantissa = magnitude << 10 >> exponent & 0x3ffu;
    const uint32_t bits = magnitude == 0 ? 0u : (exponent + 15) << 10 | mantissa;
    return (bits | (value < 0 ? 0x8000u : 0u)) * 0x10001u;
}

// The low or high half of a word as f32.
DEVICE float low_half(uint32_t word) {
    return __half2float(__ushort_as_half(static_cast<unsigned short>(word & 0xffffu)));
}
DEVICE float high_half(uint32_t word) {
    return __half2float(__ushort_as_half(static_cast<unsigned short>(word >> 16)));
}

// 32768 plus byte `index` of a word, as f32: what (byte − offset) · d takes one exact fma from,
// fma(d, biased_byte, −(32768 + offset) · d).
DEVICE float biased_byte(uint32_t word, int index, const Magic &magic) {
    return __uint_as_float(__byte_perm(word, magic.f32, 0x7404u | static_cast<unsigned>(index) << 4));
}

// 1024 + q → q − OFFSET.
template <int OFFSET>
DEVICE uint32_t unbias(uint32_t biased) {
    constexpr uint32_t BIAS = f16_pair(-1024 - OFFSET);
    return add_f16x2(biased, BIAS);
}

// 1024 + 16 q → q − OFFSET.
template <int OFFSET>
DEVICE uint32_t unbias_16(uint32_t biased) {
    constexpr uint32_t ONE_SIXTEENTH = 0x2c002c00u, BIAS = f16_pair(-64 - OFFSET);
    return fma_f16x2(biased, ONE_SIXTEENTH, BIAS);
}

// Four bytes q + 128 of a word → two registers: bytes 0 and 1, bytes 2 and 3.
DEVICE void unpack_bytes(uint32_t word, uint32_t *registers, const Magic &magic) {
    registers[0] = unbias<128>(__byte_perm(word, magic.f16, 0x5150));
    registers[1] = unbias<128>(__byte_perm(word, magic.f16, 0x5352));
}

// Eight integers of four bits → the four registers of an operand, minus OFFSET. Nibble r of
// each half of the word belongs to register r.
template <int OFFSET>
DEVICE void unpack_nibbles(uint32_t word, uint32_t (&registers)[4], const Magic &magic) {
#pragma unroll
    for (int pair = 0; pair < 2; ++pair) {
        const uint32_t shifted = word >> 8 * pair;
        registers[2 * pair] = unbias<OFFSET>((shifted & 0x000f000fu) | magic.f16);
        registers[2 * pair + 1] = unbias_16<OFFSET>((shifted & 0x00f000f0u) | magic.f16);
    }
}

// Where the fifth bits of operand 0 to 3 lie in a half of their word: of register 2 p at
// fifth_bit_place(operand, p), of register 2 p + 1 four bits higher, so that one shift serves
// both.
DEVICE constexpr int fifth_bit_place(int operand, int pair) {
    const int index = 2 * operand + pair;
    return index < 4 ? index : index + 4;
}

// As unpack_nibbles for five bits; `fifths` are those of four operands.
template <int OFFSET>
DEVICE void unpack_five_bits(uint32_t word, uint32_t fifths, int operand, uint32_t (&registers)[4],
                             const Magic &magic) {
#pragma unroll
    for (int pair = 0; pair < 2; ++pair) {
        const uint32_t shifted = word >> 8 * pair;
        const int place = fifth_bit_place(operand, pair);
        const uint32_t high = place < 4 ? fifths << (4 - place) : fifths >> (place - 4);
        const uint32_t low = (shifted & 0x000f000fu) | magic.f16;
        registers[2 * pair] = unbias<OFFSET>((high & 0x00100010u) | low);
        const uint32_t low_16 = (shifted & 0x00f000f0u) | magic.f16;
        registers[2 * pair + 1] = unbias_16<OFFSET>((high & 0x01000100u) | low_16);
    }
}

// Three words of 16 integers of six bits → the registers of two operands, minus 32. In each half
// of the words, with r0 to r7 for the integers of the eight registers:
//   words[0] = r0 | r1 << 6 | (r6 & 15) << 12
//   words[1] = r2 | r3 << 6 | (r7 & 15) << 12
//   words[2] = r4 | r5 << 6 | (r6 >> 4) << 12 | (r7 >> 4) << 14
DEVICE void unpack_six_bits(const uint32_t *words, uint32_t (&registers)[2][4], const Magic &magic) {
    constexpr uint32_t SIX = 0x003f003fu, LOW = 0x000f000fu, HIGH = 0x00300030u;
    uint32_t biased[8];
#pragma unroll
    for (int i = 0; i < 3; ++i) {
        biased[2 * i] = (words[i] & SIX) | magic.f16;
        biased[2 * i + 1] = (words[i] >> 6 & SIX) | magic.f16;
    }
    biased[6] = (words[2] >> 8 & HIGH) | ((words[0] >> 12 & LOW) | magic.f16);
    biased[7] = (words[2] >> 10 & HIGH) | ((words[1] >> 12 & LOW) | magic.f16);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
        registers[i / 4][i % 4] = unbias<32>(biased[i]);
    }
}

// The scales and minima of Q4_K and Q5_K, six bits each, a byte for each of eight groups; the
// packing of the words is the format's own (quant/k_quants.rs).
DEVICE void unpack_scales(const uint32_t *words, uint32_t (&scales)[2], uint32_t (&minima)[2]) {
    scales[0] = words[0] & 0x3f3f3f3fu;
    minima[0] = words[1] & 0x3f3f3f3fu;
    scales[1] = (words[2] & 0x0f0f0f0fu) | (words[0] >> 2 & 0x30303030u);
    minima[1] = (words[2] >> 4 & 0x0f0f0f0fu) | (words[1] >> 2 & 0x30303030u);
}

// Four bytes of FP8 E4M3 → two registers: bytes 0 and 1, bytes 2 and 3. With the exponent's bits in
// their place the bias is 15, not 7: the f16 is 2^−8 times the value, subnormal where it is, and
// exact. The two NaN would come out as ±480, and are refused when a matrix is
// made.
DEVICE void unpack_f8(uint32_t word, uint32_t *registers) {
    constexpr uint32_t TWO_TO_8 = 0x5c005c00u;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
        const uint32_t bytes = __byte_perm(word, 0, i == 0 ? 0x1404 : 0x3424);
        const uint32_t scaled = (bytes & 0x80008000u) | (bytes >> 1 & 0x3f803f80u);
        registers[i] = fma_f16x2(scaled, TWO_TO_8, 0);
    }
}

// Where the eight FP4 numbers of an operand lie in their word. Number n = 2 · register + half has
// its three bits of magnitude in nibble n, where a byte permutation looks them up; the top bits of
// nibbles are signs, so that those of numbers 0 to 3, and shifted by four those of 4 to 7, are the
// top bits of bytes.
DEVICE constexpr unsigned fp4_magnitude_place(unsigned number) { return 4 * number; }
DEVICE constexpr unsigned fp4_sign_place(unsigned number) {
    return number < 4 ? 8 * number + 7 : 8 * (number - 4) + 3;
}

// Eight FP4 numbers (E2M1) → the four registers of an operand. All of them are f16 whose lower
// byte is zero.
DEVICE void unpack_fp4(uint32_t word, uint32_t (&registers)[4]) {
    // The upper bytes of 0, ½, 1, 1½ and of 2, 3, 4, 6.
    constexpr uint32_t SMALL = 0x3e3c3800u, LARGE = 0x46444240u, SIGNS = 0x80808080u;
    const uint32_t magnitudes = word & 0x77777777u;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
        const uint32_t bytes = __byte_perm(SMALL, LARGE, magnitudes >> 16 * i) |
                               (word << 4 * i & SIGNS);
        registers[2 * i] = __byte_perm(bytes, 0, 0x1404);
        registers[2 * i + 1] = __byte_perm(bytes, 0, 0x3424);
    }
}

// As unpack_nibbles, minus a zero point of at most 16 for each row: of row g, registers 0 and 2, in
// bits 0 to 7 of `zeros`, of row g + 8, registers 1 and 3, in bits 8 to 15.
DEVICE void unpack_zero_nibbles(uint32_t word, uint32_t zeros, uint32_t (&registers)[4],
                                const Magic &magic) {
    constexpr uint32_t ONE_SIXTEENTH = 0x2c002c00u, MINUS_64 = 0xd400d400u, SIGNS = 0x80008000u;
    // −(1024 + zero) and, with the zero point four bits higher, −(64 + zero).
    const uint32_t low = __byte_perm(zeros, magic.f16 | SIGNS, 0x5050);
    const uint32_t high = (__byte_perm(zeros, 0, 0x4141) << 4) + MINUS_64;
#pragma unroll
    for (int pair = 0; pair < 2; ++pair) {
        const uint32_t shifted = word >> 8 * pair;
        registers[2 * pair] = add_f16x2((shifted & 0x000f000fu) | magic.f16, low);
        registers[2 * pair + 1] =
            fma_f16x2((shifted & 0x00f000f0u) | magic.f16, ONE_SIXTEENTH, high);
    }
}
