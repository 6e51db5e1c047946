// attention of spans of few rows: a block for each split of the context; the last one of a group to
// be done merges its splits. Where all spans have one row it may do rope_append's work as well
// (`appends`): prepare.cuh. Formula in mod.rs, the arithmetic in tile.cuh.
//
// A block has all lines of a key head and a span, so what is cached is read once: up to 16 lines
// in the narrow kernels, 32 or 64 in the wide ones, more in further blocks. The grid follows
// the length of the block tables, never positions, which are read from device memory: blocks of
// splits that nobody sees leave at once. Bound by memory: 2 · 2 · width bytes a position and key
// head of bf16, 2 · width + 8 of 8 bits; of a split's state another 4 (width + 2) bytes a line,
// which is 1/64 of a split's bytes for 4 lines, out and in again.
//
// Scratch: merge.cuh.

#include "ops/attention/merge.cuh"
#include "ops/attention/prepare.cuh"

// The output where one split is seen: the fold of one state is that state.
template <class S>
DEVICE void write_output(const AttentionParams &params, const Lines &lines, const Place<S> &place,
                         const State<S> &state) {
#pragma unroll
    for (unsigned half = 0; half < 2; ++half) {
        const float inverse = 1.0f / state.line_total(half);
        store_line<S>(params, lines, place, half, [&](unsigned i, unsigned j) {
            return normalised(state.sums[i][half * 2 + j], inverse);
        });
    }
}

template <class S>
DEVICE void decode(const AttentionParams &params) {
    const BatchSpan span = params.batch.spans[blockIdx.z];
    const unsigned kv_head = blockIdx.y / params.line_tiles;
    const unsigned first_line = blockIdx.y % params.line_tiles * S::N_LINES;
    const Lines lines = lines_of(params, span, kv_head, first_line, S::N_LINES);
    if (span.n_rows > ATTENTION_DECODE_ROWS || first_line >= lines.end) {
        return;
    }
    const Positions seen = lines.seen(params);
    const unsigned first_page = max(seen.first / KV_PAGE_TOKENS, blockIdx.x * ATTENTION_SPLIT_PAGES);
    const unsigned end_page =
        min((seen.end + KV_PAGE_TOKENS - 1) / KV_PAGE_TOKENS, (blockIdx.x + 1) * ATTENTION_SPLIT_PAGES);
    if (first_page >= end_page) {
        return;
    }
    const Memory<S> memory;
    const Place<S> place;
    // What is stored already; a new position is not.
    const Positions known = {seen.first, params.appends != 0 ? span.position : seen.end};
    Ring<S> ring(params, lines, memory, known, first_page, end_page);
    NewPosition<S> fresh(params, span, end_page);
    prepare<S>(params, lines, memory, fresh);
    State<S> state;
    state.clear();
    look<S>(params, lines, place, state);
#pragma unroll 1
    for (unsigned page = first_page; page < end_page; ++page) {
        unsigned char *stage = ring.next();
        if (fresh.is_in(page)) {
            fresh.store(stage);
            __syncthreads();
        }
        absorb<S>(params, place, memory, stage, page, state);
    }
    const unsigned n_splits = (seen.end - 1) / SPLIT_TOKENS - seen.first / SPLIT_TOKENS + 1;
    if (n_splits == 1) {
        write_output<S>(params, lines, place, state);
        return;
    }
    write_state<S>(params, lines, place, state);
    if (is_last_split(params, n_splits)) {
        merge<S>(params, lines);
    }
}

// As many blocks to a multiprocessor as their shared memory lets a Hopper have, so 128 registers where
// heads are no wider than 128.
//
// Grid: (splits of the longest block table, n_kv_heads · line_tiles, spans). Block: all threads
// of the shape.
#define DECODE(NAME, WIDTH, LINE_WARPS, COLUMN_WARPS, EIGHT_BIT, MIN_BLOCKS)                                 \
    KERNEL(NAME, AttentionParams, 32 * LINE_WARPS * COLUMN_WARPS, MIN_BLOCKS) {                              \
        decode<Shape<WIDTH, LINE_WARPS, COLUMN_WARPS, EIGHT_BIT>>(params);                                   \
    }

#define DECODE_WIDTH(WIDTH, WIDE_LINE_WARPS, WIDE_COLUMN_WARPS)                                              \
    DECODE(attention_decode_##WIDTH##_bf16, WIDTH, 1, 4, false, (WIDTH <= 128 ? 4 : 3))                      \
    DECODE(attention_decode_##WIDTH##_int8, WIDTH, 1, 4, true, (WIDTH <= 128 ? 4 : 3))                       \
    DECODE(attention_decode_##WIDTH##_bf16_wide, WIDTH, WIDE_LINE_WARPS, WIDE_COLUMN_WARPS, false,           \
           (WIDTH <= 128 ? 2 : 1))                                                                           \
    DECODE(attention_decode_##WIDTH##_int8_wide, WIDTH, WIDE_LINE_WARPS, WIDE_COLUMN_WARPS, true,            \
           (WIDTH <= 128 ? 2 : 1))

DECODE_WIDTH(32, 4, 2)
DECODE_WIDTH(64, 4, 2)
DECODE_WIDTH(80, 4, 2)
DECODE_WIDTH(96, 4, 2)
DECODE_WIDTH(128, 4, 2)
DECODE_WIDTH(192, 2, 4)
DECODE_WIDTH(256, 2, 4)
