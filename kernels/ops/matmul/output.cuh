// What becomes of a product, see MatmulOutput in params.h.
//
// Gates meet their values in the block that computes both, so blocks take a tile of gates and the
// tile of its values one after the other:
//
//   place   0        1             2        3             4        …
//   tile    gates 0  values 0      gates 1  values 1      gates 2  …      values i = gates i + half
#pragma once

#include "device/kernel.cuh"
#include "ops/gated/activation.cuh"
#include "ops/matmul/params.h"

// The tile at `place` of the order in which blocks take them; behind the last, none is.
DEVICE unsigned tile_at(const MatmulOutput &output, unsigned place) {
    const unsigned half = output.n_gate_tiles;
    return place < 2 * half ? place / 2 + place % 2 * half : place;
}

// The result of a row, before its gate.
DEVICE float conclude(const MatmulOutput &output, unsigned row, float product) {
    float y = product * output.scale;
    if (output.bias != nullptr) {
        y += output.bias[row];
    }
    if (output.soft_cap != 0.0f) {
        y = output.soft_cap * tanhf(y / output.soft_cap);
    }
    return y;
}

DEVICE void store_output(const MatmulOutput &output, unsigned token, unsigned column, float y) {
    float *out = output.out + static_cast<size_t>(token) * output.width + output.first + column;
    *out = output.accumulate != 0 ? *out + y : y;
}

DEVICE void finish(const MatmulOutput &output, unsigned token, unsigned row, float product) {
    store_output(output, token, row, conclude(output, row, product));
}

// Likewise for a gate and its value; `row` is the gate's.
DEVICE void finish_gated(const MatmulOutput &output, unsigned token, unsigned row, float gate,
                         float value) {
    const unsigned value_row = row + output.n_gate_tiles * MATMUL_TILE_ROWS;
    const float a = activate(output.activation, conclude(output, row, gate));
    store_output(output, token, row, a * conclude(output, value_row, value));
}
