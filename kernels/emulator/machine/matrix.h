// The matrix operations of a warp.
#pragma once

#include "machine.h"

namespace emulator {

// One lane's part of d += a · b.
struct Fragments {
    float *d;          // 4 values
    const uint32_t *a; // 4 registers
    uint32_t b[2];
};

// One lane's part of an ldmatrix.
struct Matrices {
    uint32_t *registers;
    uint32_t address;
};

extern const Operation MULTIPLY_BF16;
extern const Operation MULTIPLY_F16;
// For 1, 2 and 4 matrices; as they are and transposed.
extern const Operation LOAD_MATRICES[3][2];

} // namespace emulator
