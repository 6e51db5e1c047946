// attention of spans of few rows: a block for each split of the context, then a merge; formula
// in mod.rs, the arithmetic in tile.cuh.
//
// A block has all lines of a key head and a span, so what is cached is read once: up to 16 lines
// in the narrow kernels, 32 or 64 in the wide ones, more in further blocks. The grid follows
// the length of the block tables, never positions, which are read from device memory: blocks of
// splits that nobody sees leave at once. Bound by memory: 2 · 2 · width bytes a position and key
// head of bf16, 2 · width + 8 of 8 bits; of a split's state another 4 (width + 2) bytes a line,
// which is 1/64 of a split's bytes for 4 lines. The merge reads those states.
//
// Scratch, of the splits that are seen: slot first_entry / ATTENTION_SPLIT_PAGES + span + split
// holds decode_rows · n_heads states.

#include "ops/attention/ring.cuh"

constexpr unsigned SPLIT_TOKENS = unsigned{ATTENTION_SPLIT_PAGES} * KV_PAGE_TOKENS;

// The number of the state of a row, a head and a split.
DEVICE size_t state_index(const AttentionParams &params, const BatchSpan &span, unsigned span_index,
                          unsigned split, unsigned row, unsigned head) {
    const size_t slot = span.first_entry / ATTENTION_SPLIT_PAGES + span_index + split;
    return (slot * params.decode_rows + row) * params.n_heads + head;
}

template <class S>
DEVICE void write_state(const AttentionParams &params, const Lines &lines, const Place<S> &place,
                        const State<S> &state) {
#pragma unroll
    for (unsigned half = 0; half < 2; ++half) {
        const float total = state.line_total(half);
        const unsigned line = lines.first + place.first_line + place.line + half * 8;
        if (line >= lines.end) {
            continue;
        }
        const size_t index = state_index(params, lines.span, blockIdx.z, blockIdx.x, lines.row(line),
                                         lines.head(line));
        float *sums = params.sums + index * S::WIDTH;
#pragma unroll
        for (unsigned i = 0; i < S::COLUMN_BLOCKS * 2; ++i) {
            const unsigned block = S::column_block(place.column_warp, i / 2);
            if (block < S::K_STEPS) {
                const float *pair = &state.sums[i][half * 2];
                store_pack<2>(sums + block * 16 + i % 2 * 8 + place.pair * 2, Pack<float, 2>{{pair[0], pair[1]}});
            }
        }
        if (place.column_warp == 0 && place.pair == 0) {
            store_pack<2>(params.totals + index * 2, Pack<float, 2>{{state.reference[half], total}});
        }
    }
}

// The output where a context is one split: the fold of one state is that state.
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
    Ring<S> ring(params, lines, memory, seen, first_page, end_page);
    stage_queries<S>(params, lines, memory.base);
    State<S> state;
    state.clear();
    look<S>(params, lines, place, state);
#pragma unroll 1
    for (unsigned page = first_page; page < end_page; ++page) {
        absorb<S>(params, place, memory, ring.next(), page, state);
    }
    if (gridDim.x == 1) {
        write_output<S>(params, lines, place, state);
    } else {
        write_state<S>(params, lines, place, state);
    }
}

// Grid: (splits of the longest block table, n_kv_heads · line_tiles, spans). Block: all threads
// of the shape.
#define DECODE(NAME, WIDTH, LINE_WARPS, COLUMN_WARPS, EIGHT_BIT, MIN_BLOCKS)                                 \
    KERNEL(NAME, AttentionParams, 32 * LINE_WARPS * COLUMN_WARPS, MIN_BLOCKS) {                              \
        decode<Shape<WIDTH, LINE_WARPS, COLUMN_WARPS, EIGHT_BIT>>(params);                                   \
    }

#define DECODE_WIDTH(WIDTH, WIDE_LINE_WARPS, WIDE_COLUMN_WARPS)                                              \
    DECODE(attention_decode_##WIDTH##_bf16, WIDTH, 1, 4, false, 3)                                           \
    DECODE(attention_decode_##WIDTH##_int8, WIDTH, 1, 4, true, 3)                                            \
    DECODE(attention_decode_##WIDTH##_bf16_wide, WIDTH, WIDE_LINE_WARPS, WIDE_COLUMN_WARPS, false, 1)        \
    DECODE(attention_decode_##WIDTH##_int8_wide, WIDTH, WIDE_LINE_WARPS, WIDE_COLUMN_WARPS, true, 1)

DECODE_WIDTH(32, 4, 2)
DECODE_WIDTH(64, 4, 2)
DECODE_WIDTH(80, 4, 2)
DECODE_WIDTH(96, 4, 2)
DECODE_WIDTH(128, 4, 2)
DECODE_WIDTH(192, 2, 4)
DECODE_WIDTH(256, 2, 4)

// Adds the states of a row's splits up, in order, a warp a head. Grid: (n_rows, n_heads /
// ATTENTION_MERGE_HEADS). A row has at most KV_MAX_WIDTH columns, 4 of them in each lane, twice.
KERNEL(attention_merge, AttentionParams, 32 * ATTENTION_MERGE_HEADS, 8) {
    const unsigned head = blockIdx.y * ATTENTION_MERGE_HEADS + threadIdx.x / WARP_LANES;
    const unsigned span_index = params.batch.row_spans[blockIdx.x];
    const BatchSpan span = params.batch.spans[span_index];
    if (span.n_rows > ATTENTION_DECODE_ROWS || head >= params.n_heads) {
        return;
    }
    const unsigned row = blockIdx.x - span.first_row;
    const Positions seen = seen_by(params, span, row);
    const unsigned column = threadIdx.x % WARP_LANES * 4;
    const unsigned width = params.kv.width;

    float reference = -INFINITY, total = 0.0f;
    Pack<float, 4> sums[2] = {};
    for (unsigned split = seen.first / SPLIT_TOKENS; split * SPLIT_TOKENS < seen.end; ++split) {
        const size_t index = state_index(params, span, span_index, split, row, head);
        const auto [split_reference, split_total] = load_pack<2>(params.totals + index * 2).lane;
        const Fold fold(reference, split_reference);
        reference = fold.reference;
        total = fold(total, split_total);
#pragma unroll
        for (unsigned part = 0; part < 2; ++part) {
            if (column + part * 128 < width) {
                const auto more = load_pack<4>(params.sums + index * width + column + part * 128);
#pragma unroll
                for (unsigned k = 0; k < 4; ++k) {
                    sums[part].lane[k] = fold(sums[part].lane[k], more.lane[k]);
                }
            }
        }
    }
    const unsigned head_dim = params.kv.head_dim;
    float *out = params.out + (static_cast<size_t>(blockIdx.x) * params.n_heads + head) * head_dim;
    const float inverse = 1.0f / total;
#pragma unroll
    for (unsigned part = 0; part < 2; ++part) {
        if (column + part * 128 < head_dim) {
#pragma unroll
            for (unsigned k = 0; k < 4; ++k) {
                sums[part].lane[k] = normalised(sums[part].lane[k], inverse);
            }
            store_pack<4>(out + column + part * 128, sums[part]);
        }
    }
}
