// Where a pipeline of Hopper's barriers stands.
#pragma once

#include "device/kernel.cuh"

// The stage that is next, and which round of the ring it is in.
template <unsigned COUNT>
struct Turn {
    unsigned slot = 0, parity = 0;

    METHOD void advance() {
        slot = slot + 1 == COUNT ? 0 : slot + 1;
        parity ^= slot == 0 ? 1u : 0u;
    }
};
