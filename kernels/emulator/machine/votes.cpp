// What lanes tell each other.
#include "votes.h"

namespace emulator {
namespace {

// Calls `f` with each lane of the mask.
template <typename F>
void for_lanes(uint32_t mask, F f) {
    for (; mask != 0; mask &= mask - 1) {
        f(static_cast<unsigned>(__builtin_ctz(mask)));
    }
}

Vote &vote(void **arguments, unsigned lane) { return *static_cast<Vote *>(arguments[lane]); }

void nothing(void **, uint32_t) {}

void exchange(void **arguments, uint32_t mask) {
    for_lanes(mask, [&](unsigned lane) {
        auto &own = *static_cast<Exchange *>(arguments[lane]);
        if ((mask >> own.source & 1) == 0) {
            fault("a shuffle: lane %u reads lane %u, which is not in the mask %08x", lane, own.source, mask);
        }
        own.result = static_cast<const Exchange *>(arguments[own.source])->value;
    });
}

void ballot(void **arguments, uint32_t mask) {
    uint64_t set = 0;
    for_lanes(mask, [&](unsigned lane) { set |= vote(arguments, lane).value << lane; });
    for_lanes(mask, [&](unsigned lane) { vote(arguments, lane).result = set; });
}

void match(void **arguments, uint32_t mask) {
    for_lanes(mask, [&](unsigned lane) {
        Vote &own = vote(arguments, lane);
        own.result = 0;
        for_lanes(mask, [&](unsigned other) {
            own.result |= uint64_t{vote(arguments, other).value == own.value} << other;
        });
    });
}

// The order of the lanes does not matter to any of these.
template <typename F>
void fold(void **arguments, uint32_t mask, F f) {
    uint64_t total = vote(arguments, __builtin_ctz(mask)).value;
    for_lanes(mask & (mask - 1), [&](unsigned lane) { total = f(total, vote(arguments, lane).value); });
    for_lanes(mask, [&](unsigned lane) { vote(arguments, lane).result = total; });
}

void add(void **arguments, uint32_t mask) {
    fold(arguments, mask, [](uint64_t a, uint64_t b) { return a + b; });
}

// Unsigned values are not negative in 64 bits, so one comparison serves both signs.
void minimum(void **arguments, uint32_t mask) {
    fold(arguments, mask, [](uint64_t a, uint64_t b) { return static_cast<int64_t>(a) < static_cast<int64_t>(b) ? a : b; });
}

void maximum(void **arguments, uint32_t mask) {
    fold(arguments, mask, [](uint64_t a, uint64_t b) { return static_cast<int64_t>(a) < static_cast<int64_t>(b) ? b : a; });
}

void bitwise_or(void **arguments, uint32_t mask) {
    fold(arguments, mask, [](uint64_t a, uint64_t b) { return a | b; });
}

void bitwise_and(void **arguments, uint32_t mask) {
    fold(arguments, mask, [](uint64_t a, uint64_t b) { return a & b; });
}

void bitwise_xor(void **arguments, uint32_t mask) {
    fold(arguments, mask, [](uint64_t a, uint64_t b) { return a ^ b; });
}

} // namespace

const Operation SYNC_WARP{"__syncwarp", Class::Warp, nothing};
const Operation SHUFFLE{"__shfl_sync", Class::Exchange, exchange};
const Operation SHUFFLE_XOR{"__shfl_xor_sync", Class::Exchange, exchange};
const Operation SHUFFLE_UP{"__shfl_up_sync", Class::Exchange, exchange};
const Operation SHUFFLE_DOWN{"__shfl_down_sync", Class::Exchange, exchange};
const Operation BALLOT{"__ballot_sync", Class::Exchange, ballot};
const Operation ANY{"__any_sync", Class::Exchange, ballot};
const Operation ALL{"__all_sync", Class::Exchange, ballot};
const Operation MATCH{"__match_any_sync", Class::Exchange, match};
const Operation ADD{"__reduce_add_sync", Class::Exchange, add};
const Operation MINIMUM{"__reduce_min_sync", Class::Exchange, minimum};
const Operation MAXIMUM{"__reduce_max_sync", Class::Exchange, maximum};
const Operation OR{"__reduce_or_sync", Class::Exchange, bitwise_or};
const Operation AND{"__reduce_and_sync", Class::Exchange, bitwise_and};
const Operation XOR{"__reduce_xor_sync", Class::Exchange, bitwise_xor};

unsigned count_block(bool counts, const char *name, Place place) {
    static unsigned count;
    // The first barrier keeps this vote from the one before, the second from the reset.
    if (current->id == 0) {
        count = 0;
    }
    barrier(0, 0, true, name, place);
    count += counts;
    barrier(0, 0, true, name, place);
    const unsigned total = count;
    barrier(0, 0, true, name, place);
    return total;
}

} // namespace emulator
