// The emulated twin of kernels/device/ptx_hopper.cuh. A warp multiplies its own rows, by the mma
// of ptx.cuh, when the product is waited for or, with eager copies, at once.
#pragma once

#include "device/ptx.cuh"
#include "emulator/machine/hopper.h"

constexpr unsigned WARPGROUP_THREADS = 128;

DEVICE void barrier_init(uint32_t barrier, unsigned n_arrivals) { emulator::phase_init(barrier, n_arrivals); }
DEVICE void barrier_init_fence() {}
DEVICE void barrier_arrive(uint32_t barrier) { emulator::phase_arrive(barrier, 0); }
DEVICE void barrier_arrive_expecting(uint32_t barrier, unsigned n_bytes) {
    emulator::phase_arrive(barrier, n_bytes);
}
DEVICE void barrier_wait(uint32_t barrier, unsigned parity, emulator::Place place = emulator::Place::current()) {
    emulator::phase_wait(barrier, parity, place);
}

DEVICE void copy_bulk(uint32_t shared, const void *global, unsigned n_bytes, uint32_t barrier) {
    emulator::copy_bulk(shared, global, n_bytes, barrier);
}
DEVICE void fence_async_proxy() {}

// What a warpgroup calls before it multiplies for the first time.
template <unsigned N>
DEVICE void take_registers() {
    static_assert(N % 8 == 0 && N >= 24 && N <= 256, "what setmaxnreg takes");
    emulator::product_forget();
}
template <unsigned N>
DEVICE void give_registers() {
    static_assert(N % 8 == 0 && N >= 24 && N <= 256, "what setmaxnreg takes");
}

// As the device has it, but for the address, which has more than 18 bits here, and the swizzle,
// which makes room for it.
DEVICE uint64_t describe_operand(uint32_t address, unsigned k_bytes, unsigned row_bytes) {
    return uint64_t{address} << 32 | (k_bytes >> 4) << 16 | row_bytes >> 4;
}

template <unsigned ROW_BYTES>
DEVICE uint64_t describe_panel(uint32_t address, unsigned panel_bytes = 0) {
    static_assert(ROW_BYTES == 32 || ROW_BYTES == 64 || ROW_BYTES == 128, "what is swizzled");
    if (address % (8 * ROW_BYTES) >= ROW_BYTES) {
        emulator::fault("describe_panel: %u is not in the first of 8 swizzled rows", address);
    }
    constexpr unsigned SWIZZLE = ROW_BYTES == 128 ? 1 : ROW_BYTES == 64 ? 2 : 3;
    return uint64_t{address} << 32 | SWIZZLE << 30 | (panel_bytes >> 4) << 16 | 8 * ROW_BYTES / 16;
}

namespace emulator {

// An operand as its descriptor has it.
struct Operand {
    uint32_t address;
    unsigned row_bytes; // swizzled, or 16
    unsigned leading, stride;

    explicit Operand(uint64_t description)
        : address(static_cast<uint32_t>(description >> 32)),
          row_bytes(description >> 30 & 3 ? 256u >> (description >> 30 & 3) : 16u),
          leading((description >> 16 & 0x3fff) * 16), stride((description & 0xffff) * 16) {}

    // Where byte `byte` of `outer` lies, the chunks of 16 bytes swizzled.
    uint32_t at(uint32_t outer, unsigned byte) const {
        const uint32_t plain = address + outer + byte;
        return plain ^ (plain >> 7 & (row_bytes / 16 - 1)) << 4;
    }

    // Elements (row, k) and (row, k + 1) of rows along K.
    uint32_t pair(unsigned row, unsigned k) const {
        const uint32_t outer = row / 8 * stride + row % 8 * row_bytes + (row_bytes == 16 ? k / 8 * leading : 0);
        uint32_t words;
        memcpy(&words, shared_pointer(at(outer, row_bytes == 16 ? k % 8 * 2 : k * 2), 4, 4, "wgmma"), 4);
        return words;
    }

    // Element k of a column, of rows that K counts.
    uint32_t of_column(unsigned column, unsigned k) const {
        const unsigned panel_columns = row_bytes / 2;
        const uint32_t outer = column / panel_columns * leading + k / 8 * stride + k % 8 * row_bytes;
        uint16_t half;
        memcpy(&half, shared_pointer(at(outer, column % panel_columns * 2), 2, 2, "wgmma"), 2);
        return half;
    }
};

DEVICE void load_rows(const WarpgroupProduct &product, uint32_t (&a)[4]) {
    const unsigned lane = current->lane, first_row = current->id / WARP_LANES % 4 * 16;
    for (unsigned i = 0; i < 4; ++i) {
        a[i] = product.a_shared == 0
                   ? product.a[i]
                   : Operand(product.a_shared).pair(first_row + lane / 4 + i % 2 * 8, lane % 4 * 2 + i / 2 * 8);
    }
}

DEVICE void multiply_now(const WarpgroupProduct &product, Place place) {
    const unsigned lane = current->lane;
    const Operand operand(product.b);
    uint32_t a[4];
    load_rows(product, a);
    for (unsigned group = 0; group < product.n_groups; ++group) {
        uint32_t b[2];
        for (unsigned i = 0; i < 2; ++i) {
            const unsigned column = group * 8 + lane / 4, k = i * 8 + lane % 4 * 2;
            b[i] = product.columns ? operand.of_column(column, k) | operand.of_column(column, k + 1) << 16
                                   : operand.pair(column, k);
        }
        float(&d)[4] = product.d[group];
        for (float &value : d) {
            value = product.from_zero ? 0.0f : value;
        }
        if (product.bf16) {
            mma_bf16(d, a, b[0], b[1], place);
        } else {
            mma_f16(d, a, b[0], b[1], place);
        }
    }
}

DEVICE void multiply_later(const WarpgroupProduct &product, Place place) {
    if (schedule_copies() == Copies::Eager) {
        multiply_now(product, place);
    } else {
        product_start(product);
    }
}

} // namespace emulator

DEVICE void warpgroup_fence() {}
DEVICE void warpgroup_commit() { emulator::product_commit(); }

template <int N>
DEVICE void warpgroup_wait(emulator::Place place = emulator::Place::current()) {
    emulator::WarpgroupProduct product;
    while (emulator::product_take(N, product)) {
        emulator::multiply_now(product, place);
    }
}

template <int N_GROUPS>
DEVICE void hold_accumulators(float (&)[N_GROUPS][4]) {}

template <int N_GROUPS>
DEVICE void warpgroup_mma_bf16(float (&d)[N_GROUPS][4], const uint32_t (&a)[4], uint64_t b, bool from_zero,
                               emulator::Place place = emulator::Place::current()) {
    static_assert(N_GROUPS == 4 || N_GROUPS == 8 || N_GROUPS == 16, "what the device has");
    emulator::multiply_later({d, N_GROUPS, {a[0], a[1], a[2], a[3]}, 0, b, from_zero, true, false}, place);
}

template <int N_GROUPS>
DEVICE void warpgroup_mma_f16(float (&d)[N_GROUPS][4], const uint32_t (&a)[4], uint64_t b, bool from_zero,
                              emulator::Place place = emulator::Place::current()) {
    static_assert(N_GROUPS == 8 || N_GROUPS == 16, "what the device has");
    emulator::multiply_later({d, N_GROUPS, {a[0], a[1], a[2], a[3]}, 0, b, from_zero, false, false}, place);
}

template <int N_GROUPS>
DEVICE void warpgroup_mma_bf16_columns(float (&d)[N_GROUPS][4], const uint32_t (&a)[4], uint64_t b, bool from_zero,
                                       emulator::Place place = emulator::Place::current()) {
    static_assert(N_GROUPS == 8 || N_GROUPS == 12 || N_GROUPS == 16, "what the device has");
    emulator::multiply_later({d, N_GROUPS, {a[0], a[1], a[2], a[3]}, 0, b, from_zero, true, true}, place);
}

DEVICE void warpgroup_mma_bf16(float (&d)[4][4], uint64_t a, uint64_t b, bool from_zero,
                               emulator::Place place = emulator::Place::current()) {
    emulator::multiply_later({d, 4, {}, a, b, from_zero, true, false}, place);
}
