// attention: what the lines of a thread see, and where their outputs go.
#pragma once

#include "ops/attention/tile.cuh"

// What the thread's two lines see; nothing, where there is no such line.
template <class S>
DEVICE void look(const AttentionParams &params, const Lines &lines, const Place<S> &place, State<S> &state) {
#pragma unroll
    for (unsigned half = 0; half < 2; ++half) {
        const unsigned line = lines.first + place.first_line + place.line + half * 8;
        state.seen[half] =
            line < lines.end ? seen_by(params, lines.span, lines.row(line)) : Positions{0, 0};
    }
}

// Writes the thread's part of a line's output, `take(i, j)` being value j of its columns' block `i`
// of 8.
template <class S, class Take>
DEVICE void store_line(const AttentionParams &params, const Lines &lines, const Place<S> &place, unsigned half,
                       const Take &take) {
    const unsigned line = lines.first + place.first_line + place.line + half * 8;
    if (line >= lines.end) {
        return;
    }
    const unsigned head_dim = params.kv.head_dim;
    float *out = params.out + (lines.batch_row(line) * params.n_heads + lines.head(line)) * head_dim;
#pragma unroll
    for (unsigned i = 0; i < S::COLUMN_BLOCKS * 2; ++i) {
        const unsigned column =
            S::column_block(place.column_warp, i / 2) * 16 + i % 2 * 8 + place.pair * 2;
        if (column < head_dim) {
            store_pack<2>(out + column, Pack<float, 2>{{take(i, 0), take(i, 1)}});
        }
    }
}
