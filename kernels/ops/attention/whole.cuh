// attention of spans of many rows: which lines a block has, and the state of all its splits in
// registers.
#pragma once

#include "ops/attention/output.cuh"

// The state of the splits so far.
template <class S>
struct Whole {
    float reference[2];
    float total[2];
    float sums[2 * S::COLUMN_BLOCKS][4];

    METHOD void clear() {
#pragma unroll
        for (unsigned half = 0; half < 2; ++half) {
            reference[half] = -INFINITY;
            total[half] = 0.0f;
        }
#pragma unroll
        for (unsigned i = 0; i < S::COLUMN_BLOCKS * 8; ++i) {
            sums[i / 4][i % 4] = 0.0f;
        }
    }

    METHOD void add(const State<S> &split) {
#pragma unroll
        for (unsigned half = 0; half < 2; ++half) {
            const Fold fold(reference[half], split.reference[half]);
            reference[half] = fold.reference;
            total[half] = fold(total[half], split.line_total(half));
#pragma unroll
            for (unsigned i = 0; i < S::COLUMN_BLOCKS * 4; ++i) {
                float &sum = sums[i / 2][half * 2 + i % 2];
                sum = fold(sum, split.sums[i / 2][half * 2 + i % 2]);
            }
        }
    }

    METHOD void store(const AttentionParams &params, const Lines &lines, const Place<S> &place) const {
#pragma unroll
        for (unsigned half = 0; half < 2; ++half) {
            const float inverse = 1.0f / total[half];
            store_line<S>(params, lines, place, half, [&](unsigned i, unsigned j) {
                return normalised(sums[i][half * 2 + j], inverse);
            });
        }
    }
};

// The lines of tile `tile`, counted over the key heads' tiles of all spans that are not decoded.
template <class S>
DEVICE Lines tile_lines(const AttentionParams &params, unsigned tile) {
    const unsigned group = params.n_heads / params.n_kv_heads;
    unsigned index = 0;
    BatchSpan span = params.batch.spans[0];
    for (;;) {
        const bool decoded = span.n_rows <= ATTENTION_DECODE_ROWS;
        const unsigned n_tiles = decoded ? 0 : (span.n_rows * group + S::N_LINES - 1) / S::N_LINES;
        if (tile < n_tiles || index + 1 == params.batch.n_spans) {
            break;
        }
        tile -= n_tiles;
        index += 1;
        span = params.batch.spans[index];
    }
    return lines_of(params, span, blockIdx.y, tile * S::N_LINES, S::N_LINES);
}
