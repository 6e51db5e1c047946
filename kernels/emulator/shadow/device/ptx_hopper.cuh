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

DEVICE uint64_t describe_operand(uint32_t address, unsigned k_bytes, unsigned row_bytes) {
    // As the device has it, but for the address, which has more than 18 bits here.
    return uint64_t{address} << 32 | (k_bytes >> 4) << 16 | row_bytes >> 4;
}

namespace emulator {

DEVICE void multiply_now(const WarpgroupProduct &product, Place place) {
    const unsigned lane = current->lane, k_bytes = (product.b >> 16 & 0xffff) * 16;
    const unsigned row_bytes = (product.b & 0xffff) * 16;
    for (unsigned group = 0; group < product.n_groups; ++group) {
        const uint32_t core = static_cast<uint32_t>(product.b >> 32) + group * row_bytes;
        uint32_t b[2];
        for (unsigned i = 0; i < 2; ++i) {
            const uint32_t address = core + i * k_bytes + lane / 4 * 16 + lane % 4 * 4;
            memcpy(&b[i], shared_pointer(address, 4, 4, "wgmma"), 4);
        }
        float(&d)[4] = product.d[group];
        for (float &value : d) {
            value = product.from_zero ? 0.0f : value;
        }
        if (product.bf16) {
            mma_bf16(d, product.a, b[0], b[1], place);
        } else {
            mma_f16(d, product.a, b[0], b[1], place);
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
    static_assert(N_GROUPS == 8 || N_GROUPS == 16, "what the device has");
    emulator::multiply_later({d, N_GROUPS, {a[0], a[1], a[2], a[3]}, b, from_zero, true}, place);
}

template <int N_GROUPS>
DEVICE void warpgroup_mma_f16(float (&d)[N_GROUPS][4], const uint32_t (&a)[4], uint64_t b, bool from_zero,
                              emulator::Place place = emulator::Place::current()) {
    static_assert(N_GROUPS == 8 || N_GROUPS == 16, "what the device has");
    emulator::multiply_later({d, N_GROUPS, {a[0], a[1], a[2], a[3]}, b, from_zero, false}, place);
}
