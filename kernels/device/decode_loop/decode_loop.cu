// decode_loop: whether one more step of decoding begins, decided on the device.
//
// A run is one launch of this graph:
//
//   decode_loop_enter → WHILE (condition) { forward pass → sample → decode_loop_next }
//
// One more step begins while a row's sequence is not finished, steps are left of those that the
// host asked for, and the host has not halted the run. The host cannot take back a value that it
// sent, so it halts runs by their number: it says how many, and may start the next run at once.
//
// One warp, a row a lane at a time. Bound by the way to the host's memory and back.

#include "device/decode_loop/params.h"
#include "device/graph.cuh"

// Whether a row of the steps has a sequence that is not finished.
DEVICE bool has_live_row(const DecodeLoopParams &params) {
    bool is_live = false;
    for (unsigned row = threadIdx.x; row < params.n_rows; row += DECODE_LOOP_THREADS) {
        const unsigned slot = params.row_slots[row];
        is_live |= slot != SAMPLE_IDLE && params.slots[slot].is_live != 0;
    }
    return __any_sync(FULL_WARP, is_live);
}

// One thread keeps what the loop has come to and decides.
DEVICE void go_on(const DecodeLoopParams &params, const DecodeLoop &loop, bool is_live) {
    const unsigned n_halted = *static_cast<const volatile unsigned *>(params.n_halted);
    const bool is_halted = static_cast<int>(n_halted - loop.n_runs) >= 0;
    *params.state = loop;
    *static_cast<volatile unsigned *>(params.n_steps) = loop.n_steps;
    set_condition(params.condition, is_live && loop.n_left > 0 && !is_halted);
}

// Grid: 1. Block: DECODE_LOOP_THREADS, as of the next one.
KERNEL(decode_loop_enter, DecodeLoopParams, DECODE_LOOP_THREADS, 1) {
    const bool is_live = has_live_row(params);
    if (threadIdx.x == 0) {
        DecodeLoop loop = *params.state;
        ++loop.n_runs;
        go_on(params, loop, is_live);
    }
}

KERNEL(decode_loop_next, DecodeLoopParams, DECODE_LOOP_THREADS, 1) {
    const bool is_live = has_live_row(params);
    if (threadIdx.x == 0) {
        DecodeLoop loop = *params.state;
        --loop.n_left;
        ++loop.n_steps;
        go_on(params, loop, is_live);
    }
}
