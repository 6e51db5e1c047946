#include "votes.h"

#include <algorithm>

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

// All of them are sums in some sense: the order of the lanes does not matter.
template <typename F>
void fold(void **arguments, uint32_t mask, F f) {
    uint64_t total = vote(arguments, __builtin_ctz(mask)).value;
    for_lanes(mask & (mask - 1), [&](unsigned lane) { total = f(total, vote(arguments, lane).value); });
    for_lanes(mask, [&](unsigned lane) { vote(arguments, lane).result = total; });
}

template <typename F>
void fold_signed(void **arguments, uint32_t mask, F f) {
    fold(arguments, mask, [&](uint64_t a, uint64_t b) {
        return static_cast<uint64_t>(f(static_cast<int64_t>(a), static_cast<int64_t>(b)));
    });
}

} // namespace

const Operation NOTHING = nothing;
const Operation EXCHANGE = exchange;
const Operation BALLOT = ballot;
const Operation MATCH = match;
const Operation ADD = [](void **arguments, uint32_t mask) {
    fold(arguments, mask, [](uint64_t a, uint64_t b) { return a + b; });
};
// Unsigned values are not negative in 64 bits, so one comparison serves both signs.
const Operation MINIMUM = [](void **arguments, uint32_t mask) {
    fold_signed(arguments, mask, [](int64_t a, int64_t b) { return std::min(a, b); });
};
const Operation MAXIMUM = [](void **arguments, uint32_t mask) {
    fold_signed(arguments, mask, [](int64_t a, int64_t b) { return std::max(a, b); });
};
const Operation OR = [](void **arguments, uint32_t mask) {
    fold(arguments, mask, [](uint64_t a, uint64_t b) { return a | b; });
};
const Operation AND = [](void **arguments, uint32_t mask) {
    fold(arguments, mask, [](uint64_t a, uint64_t b) { return a & b; });
};
const Operation XOR = [](void **arguments, uint32_t mask) {
    fold(arguments, mask, [](uint64_t a, uint64_t b) { return a ^ b; });
};

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
