// What lanes tell each other: shuffles, votes and reductions.
#pragma once

#include "machine.h"

namespace emulator {

// One lane's part of a shuffle: its value, and the lane whose value it wants.
struct Exchange {
    uint64_t value;
    uint64_t result;
    unsigned source;
};

// One lane's part of a reduction. Signed values come extended to 64 bits.
struct Vote {
    uint64_t value;
    uint64_t result;
};

extern const Operation SYNC_WARP;
extern const Operation SHUFFLE;
extern const Operation SHUFFLE_XOR;
extern const Operation SHUFFLE_UP;
extern const Operation SHUFFLE_DOWN;
extern const Operation BALLOT;
extern const Operation ANY;
extern const Operation ALL;
extern const Operation MATCH;
extern const Operation ADD;
extern const Operation MINIMUM;
extern const Operation MAXIMUM;
extern const Operation OR;
extern const Operation AND;
extern const Operation XOR;

// Threads of the block for which `counts` holds; a barrier for all of them.
unsigned count_block(bool counts, const char *name, Place place);

} // namespace emulator
