// Hopper's barriers that count bytes, its bulk copies, and multiplications that end when they are
// waited for.
#pragma once

#include "machine.h"

namespace emulator {

void phase_init(uint32_t barrier, unsigned n_arrivals);
// One arrival; `n_bytes` more are expected in this phase.
void phase_arrive(uint32_t barrier, unsigned n_bytes);
void phase_wait(uint32_t barrier, unsigned parity, Place place);
// Bytes that land, as the schedule has it, at once or when the barrier is waited for.
void copy_bulk(uint32_t target, const void *source, unsigned n_bytes, uint32_t barrier);

// One product of a warp's part: d = a · b, plus d unless from_zero. Operand A is in registers where
// `a_shared` is 0, which describes none.
struct WarpgroupProduct {
    float (*d)[4];
    unsigned n_groups;
    uint32_t a[4];
    uint64_t a_shared, b;
    bool from_zero, bf16, columns;
};

// Products of the current thread that are under way.
void product_forget();
void product_start(const WarpgroupProduct &product);
void product_commit();
// The oldest product of the groups before the last `n_under_way`; false where there is none.
bool product_take(unsigned n_under_way, WarpgroupProduct &product);

} // namespace emulator
