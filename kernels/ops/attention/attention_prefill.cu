// attention of spans of many rows: a block for each tile of lines, through all that they see;
// formula in mod.rs, the arithmetic in tile.cuh.
//
// A block has 64 lines (32 where heads are wider than 128), which share each page's keys and
// values, and takes the splits one after another: at the end of each its state is added to what
// came before, in registers, as the merge of decode does with states in memory. Bound by the
// reads of keys and values from shared memory: each warp reads 2 · 64 bytes a position and 16
// columns for 2 · 4 tensor core instructions.

#include "ops/attention/ring.cuh"

// The state of the splits so far.
template <class S>
struct Whole {
    float reference[2];
    float total[2];
    float sums[S::COLUMN_BLOCKS][2][4];

    __device__ __forceinline__ void clear() {
#pragma unroll
        for (unsigned half = 0; half < 2; ++half) {
            reference[half] = -INFINITY;
            total[half] = 0.0f;
        }
#pragma unroll
        for (unsigned i = 0; i < S::COLUMN_BLOCKS * 8; ++i) {
            sums[i / 8][i / 4 % 2][i % 4] = 0.0f;
        }
    }

    __device__ __forceinline__ void add(const State<S> &split) {
#pragma unroll
        for (unsigned half = 0; half < 2; ++half) {
            const Fold fold(reference[half], split.reference[half]);
            reference[half] = fold.reference;
            total[half] = fold(total[half], split.line_total(half));
#pragma unroll
            for (unsigned i = 0; i < S::COLUMN_BLOCKS * 4; ++i) {
                float &sum = sums[i / 4][i / 2 % 2][half * 2 + i % 2];
                sum = fold(sum, split.sums[i / 4][i / 2 % 2][half * 2 + i % 2]);
            }
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

template <class S>
DEVICE void prefill(const AttentionParams &params) {
    // Later tiles see more: they go first, so that no long one is left over at the end.
    const Lines lines = tile_lines<S>(params, gridDim.x - 1 - blockIdx.x);
    const Positions seen = lines.seen(params);
    const unsigned first_page = seen.first / KV_PAGE_TOKENS;
    const unsigned end_page = (seen.end + KV_PAGE_TOKENS - 1) / KV_PAGE_TOKENS;
    const Memory<S> memory;
    const Place<S> place;
    Ring<S> ring(params, lines, memory, seen, first_page, end_page);
    stage_queries<S>(params, lines, memory.base);
    Whole<S> whole;
    whole.clear();
    State<S> state;
    state.clear();
    look<S>(params, lines, place, state);
#pragma unroll 1
    for (unsigned page = first_page; page < end_page; ++page) {
        absorb<S>(params, place, memory, ring.next(), page, state);
        if ((page + 1) % ATTENTION_SPLIT_PAGES == 0 || page + 1 == end_page) {
            whole.add(state);
            state.clear();
        }
    }
#pragma unroll
    for (unsigned half = 0; half < 2; ++half) {
        const float inverse = 1.0f / whole.total[half];
        store_line<S>(params, lines, place, half, [&](unsigned i, unsigned block, unsigned j) {
            return normalised(whole.sums[i][block][half * 2 + j], inverse);
        });
    }
}

// Grid: (tiles of all spans of more than ATTENTION_DECODE_ROWS rows, n_kv_heads). Block: all
// threads of the shape.
#define PREFILL(NAME, WIDTH, LINE_WARPS, COLUMN_WARPS, EIGHT_BIT)                                            \
    KERNEL(NAME, AttentionParams, 32 * LINE_WARPS * COLUMN_WARPS, 2) {                                       \
        prefill<Shape<WIDTH, LINE_WARPS, COLUMN_WARPS, EIGHT_BIT>>(params);                                  \
    }

#define PREFILL_WIDTH(WIDTH, LINE_WARPS, COLUMN_WARPS)                                                       \
    PREFILL(attention_prefill_##WIDTH##_bf16, WIDTH, LINE_WARPS, COLUMN_WARPS, false)                        \
    PREFILL(attention_prefill_##WIDTH##_int8, WIDTH, LINE_WARPS, COLUMN_WARPS, true)

PREFILL_WIDTH(32, 4, 1)
PREFILL_WIDTH(64, 4, 1)
PREFILL_WIDTH(80, 4, 1)
PREFILL_WIDTH(96, 4, 1)
PREFILL_WIDTH(128, 4, 1)
PREFILL_WIDTH(192, 2, 2)
PREFILL_WIDTH(256, 2, 2)
