// attention of spans of many rows: a block for each tile of lines, through all that they see;
// formula in mod.rs, the arithmetic in tile.cuh.
//
// A block has 64 lines (32 where heads are wider than 128), which share each page's keys and
// values, and takes the splits one after another: at the end of each its state is added to what
// came before, in registers, as the merge of decode does with states in memory. Bound by the
// reads of keys and values from shared memory: each warp reads 2 · 64 bytes a position and 16
// columns for 2 · 4 tensor core instructions.

#include "ops/attention/ring.cuh"
#include "ops/attention/whole.cuh"

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
    whole.store(params, lines, place);
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
