// architectures: 90a
// attention of spans of many rows on Hopper, for keys and values in bf16; formula in mod.rs, launch
// and what bounds it in hopper.cuh.

#include "ops/attention/hopper.cuh"

// Heads of 256 have their columns shared out: COLUMN_GROUPS.
#define HOPPER(WIDTH, COLUMN_GROUPS)                                                                         \
    KERNEL(attention_##WIDTH##_hopper, AttentionParams, ATTENTION_HOPPER_THREADS, 1) {                       \
        attention_hopper<HopperShape<WIDTH, COLUMN_GROUPS>>(params);                                         \
    }

HOPPER(64, 1)
HOPPER(96, 1)
HOPPER(128, 1)
HOPPER(256, 2)
