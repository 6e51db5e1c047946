// The emulated twin of kernels/device/ptx.cuh: the same functions, which say what the
// instructions do instead of naming them.
#pragma once

#include "device/kernel.cuh"
#include "emulator/machine/matrix.h"

DEVICE uint32_t shared_address(const void *pointer) { return emulator::shared_address(pointer); }

namespace emulator {

DEVICE void multiply(const Operation &operation, float *d, const uint32_t *a, uint32_t b0, uint32_t b1, Place place) {
    Fragments fragments{d, a, {b0, b1}};
    meet(operation, FULL_WARP, &fragments, place);
}

template <unsigned N_REGISTERS>
DEVICE void load_matrices(uint32_t (&registers)[N_REGISTERS], uint32_t address, bool transposed, Place place) {
    Matrices matrices{registers, address};
    meet(LOAD_MATRICES[N_REGISTERS / 2][transposed], FULL_WARP, &matrices, place);
}

} // namespace emulator

DEVICE void mma_bf16(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1,
                     emulator::Place place = emulator::Place::current()) {
    emulator::multiply(emulator::MULTIPLY_BF16, d, a, b0, b1, place);
}

DEVICE void mma_f16(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1,
                    emulator::Place place = emulator::Place::current()) {
    emulator::multiply(emulator::MULTIPLY_F16, d, a, b0, b1, place);
}

DEVICE void ldmatrix_x4(uint32_t (&r)[4], uint32_t address, emulator::Place place = emulator::Place::current()) {
    emulator::load_matrices(r, address, false, place);
}

DEVICE void ldmatrix_x4_trans(uint32_t (&r)[4], uint32_t address,
                              emulator::Place place = emulator::Place::current()) {
    emulator::load_matrices(r, address, true, place);
}

DEVICE void ldmatrix_x2(uint32_t (&r)[2], uint32_t address, emulator::Place place = emulator::Place::current()) {
    emulator::load_matrices(r, address, false, place);
}

DEVICE void cp_async_16(uint32_t shared, const void *global, unsigned n_bytes = 16) {
    emulator::copy_async(shared, global, 16, n_bytes);
}

DEVICE void cp_async_4(uint32_t shared, const void *global, unsigned n_bytes = 4) {
    emulator::copy_async(shared, global, 4, n_bytes);
}

DEVICE void cp_async_commit() { emulator::copy_commit(); }

template <int N>
DEVICE void cp_async_wait() {
    emulator::copy_wait(N);
}

DEVICE void named_barrier(unsigned id, unsigned n_threads, emulator::Place place = emulator::Place::current()) {
    emulator::barrier(id, n_threads, true, "named_barrier", place);
}

DEVICE uint32_t opaque(uint32_t value) { return value; }

namespace emulator {

// The half nearest to `value`, the even one of two; by bits, as the toolkit's own conversion on the
// host takes most of an emulated matmul's time.
DEVICE uint32_t round_to_half(double value) {
    const uint64_t bits = __builtin_bit_cast(uint64_t, value);
    const uint64_t magnitude = bits & ~(uint64_t{1} << 63);
    const auto sign = static_cast<uint32_t>(bits >> 48 & 0x8000);
    constexpr int DROPPED = 52 - 10;
    if (magnitude > uint64_t{0x7ff} << 52) {
        return 0x7fff;
    }
    if (magnitude >= __builtin_bit_cast(uint64_t, 65520.0)) {
        return sign | 0x7c00;
    }
    if (magnitude < __builtin_bit_cast(uint64_t, 0x1p-14)) {
        // A multiple of 2^-24: where the addition puts the last bit.
        const double shifted = __builtin_bit_cast(double, magnitude) + 0x1p28;
        return sign | static_cast<uint32_t>(__builtin_bit_cast(uint64_t, shifted) & 0xffff);
    }
    const uint64_t rounded = magnitude + (uint64_t{1} << (DROPPED - 1)) - 1 + (magnitude >> DROPPED & 1);
    return sign | static_cast<uint32_t>((rounded >> DROPPED) - (uint64_t{1023 - 15} << 10));
}

// `function` of each pair of halves, rounded once: double holds what is computed exactly.
template <typename Function>
DEVICE uint32_t each_half(Function function) {
    uint32_t result = 0;
    for (unsigned shift = 0; shift < 32; shift += 16) {
        result |= round_to_half(function(shift)) << shift;
    }
    return result;
}

DEVICE double half_at(uint32_t pair, unsigned shift) {
    return __half2float(__ushort_as_half(static_cast<unsigned short>(pair >> shift)));
}

} // namespace emulator

DEVICE uint32_t add_f16x2(uint32_t a, uint32_t b) {
    return emulator::each_half([=](unsigned shift) {
        return emulator::half_at(a, shift) + emulator::half_at(b, shift);
    });
}

DEVICE uint32_t fma_f16x2(uint32_t a, uint32_t b, uint32_t c) {
    return emulator::each_half([=](unsigned shift) {
        return emulator::half_at(a, shift) * emulator::half_at(b, shift) + emulator::half_at(c, shift);
    });
}
