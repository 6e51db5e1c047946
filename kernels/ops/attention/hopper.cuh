// attention of spans of many rows on Hopper: bulk copies bring pages into shared memory, warpgroups
// multiply.
//
// Warpgroup 0 gives its registers away, and its first warp copies: a page of keys and values of a
// head lies in memory in the panels that wgmma reads (device/kv.cuh), so a page that is seen whole is
// one copy. Of the others the rows that are known come panel by panel, and the values' other rows
// become zeros. Warpgroups 1 and 2 have 64 lines each or, where heads are 256 wide, the same 64 lines
// and half of the columns each: the scores are computed by both then, because the registers hold no
// more than 128 columns of the state of a split and of the splits before it.
//
// A page's scores are on the tensor cores while the values of the page before are added:
//
//   copies    | page 0 | page 1 | page 2 | …                        full[i] →      ← empty[i]
//   products           | Q·K₀ | Q·K₁, P₀·V₀ | Q·K₂, P₁·V₁ | …
//   registers                 | P₀          | P₁          | …
//
// What is summed, in which order, and where references move is tile.cuh's: by k steps of 16, by
// pages, by splits. Whether a warpgroup's sum of 16 products has the bits of an mma's is for the
// device to say (hopper.rs). Bound by the tensor cores; where heads are 256 wide as much by shared
// memory, from which the queries are read again for each page. Executed on the emulated device alone
// so far.
#pragma once

#include "device/ptx_hopper.cuh"
#include "device/turn.cuh"
#include "ops/attention/whole.cuh"

// How a kernel cuts its work, as Shape does.
template <int WIDTH_, int COLUMN_GROUPS_>
struct HopperShape {
    static constexpr unsigned WIDTH = WIDTH_;
    static constexpr unsigned COLUMN_GROUPS = COLUMN_GROUPS_; // warpgroups that share lines
    static constexpr bool EIGHT_BIT = false;
    static constexpr unsigned N_GROUPS = 2; // warpgroups that multiply
    static constexpr unsigned N_THREADS = N_GROUPS * WARPGROUP_THREADS;
    static constexpr unsigned GROUP_WARPS = WARPGROUP_THREADS / WARP_LANES;
    static constexpr unsigned GROUP_LINES = GROUP_WARPS * ATTENTION_LINES;
    static constexpr unsigned N_LINES = N_GROUPS / COLUMN_GROUPS * GROUP_LINES;

    static constexpr unsigned CHUNKS = WIDTH / KV_CHUNK;
    static constexpr unsigned PANEL_CHUNKS = kv_panel_chunks(CHUNKS);
    static constexpr unsigned K_STEPS = WIDTH / 16;
    static constexpr unsigned SCORE_BLOCKS = KV_PAGE_TOKENS / 8;
    static constexpr unsigned COLUMN_BLOCKS = K_STEPS / COLUMN_GROUPS;

    static constexpr unsigned ROW_BYTES = PANEL_CHUNKS * 16; // of a panel
    static constexpr unsigned N_PANELS = 2 * WIDTH / ROW_BYTES;         // of keys, and of values
    static constexpr unsigned PANEL_BYTES = KV_PAGE_TOKENS * ROW_BYTES;
    static constexpr unsigned QUERY_PANEL_BYTES = N_LINES * ROW_BYTES;
    static constexpr unsigned QUERY_BYTES = N_PANELS * QUERY_PANEL_BYTES;
    static constexpr unsigned STAGE_BYTES = 2 * N_PANELS * PANEL_BYTES;
    static constexpr unsigned STAGES = ATTENTION_HOPPER_STAGES;
    // Whether queries stay in registers: from shared memory, operand A of 32 positions takes longer
    // to read than to multiply. With halves of 256 columns there is no room for them.
    static constexpr bool HELD_QUERIES = WIDTH <= 128;

    static_assert(N_PANELS % COLUMN_GROUPS == 0, "whole panels");
    static_assert(HELD_QUERIES || N_LINES == GROUP_LINES, "an operand begins at the block's first line");

    DEVICE unsigned thread() { return threadIdx.x - WARPGROUP_THREADS; }
    DEVICE unsigned column_warp(unsigned warp) { return warp / GROUP_WARPS % COLUMN_GROUPS; }
    DEVICE unsigned first_line(unsigned warp) {
        return warp / GROUP_WARPS / COLUMN_GROUPS * GROUP_LINES + warp % GROUP_WARPS * ATTENTION_LINES;
    }
    DEVICE unsigned column_block(unsigned column_warp, unsigned i) { return column_warp * COLUMN_BLOCKS + i; }
};

// What shared memory begins with; the queries and the stages follow, whose swizzle needs places at
// multiples of 1024 bytes.
struct alignas(ATTENTION_HOPPER_BARRIER_BYTES) AttentionBarriers {
    uint64_t full[ATTENTION_HOPPER_STAGES], empty[ATTENTION_HOPPER_STAGES];
};

// The block's shared memory.
template <class S>
struct HopperMemory {
    AttentionBarriers &barriers = *dynamic_shared<AttentionBarriers>();

    METHOD unsigned char *queries() const { return reinterpret_cast<unsigned char *>(&barriers + 1); }
    METHOD unsigned char *stage(unsigned i) const { return queries() + S::QUERY_BYTES + i * S::STAGE_BYTES; }
    METHOD uint32_t full(unsigned i) const { return shared_address(&barriers.full[i]); }
    METHOD uint32_t empty(unsigned i) const { return shared_address(&barriers.empty[i]); }
};

// Rows [first, end) of a page. Of the others nothing may be known: their scores are not looked at,
// but their values are multiplied by weights of 0, and 0 · NaN is NaN.
template <class S>
DEVICE void copy_rows(const unsigned char *stored, unsigned char *stage, unsigned first, unsigned end, uint32_t full) {
    constexpr unsigned ROW_CHUNKS = S::ROW_BYTES / 16, VALUES = S::STAGE_BYTES / 2;
    const unsigned lane = threadIdx.x % WARP_LANES;
    for (unsigned i = lane; i < VALUES / 16; i += WARP_LANES) {
        const unsigned row = i / ROW_CHUNKS % KV_PAGE_TOKENS;
        if (row < first || row >= end) {
            store_pack<4>(reinterpret_cast<uint32_t *>(stage + VALUES + i * 16), Pack<uint32_t, 4>{});
        }
    }
    fence_async_proxy();
    __syncwarp();
    if (lane == 0) {
        const unsigned n_bytes = (end - first) * S::ROW_BYTES;
        barrier_arrive_expecting(full, 2 * S::N_PANELS * n_bytes);
        for (unsigned panel = 0; panel < 2 * S::N_PANELS; ++panel) {
            const unsigned at = panel * S::PANEL_BYTES + first * S::ROW_BYTES;
            copy_bulk(shared_address(stage) + at, stored + at, n_bytes, full);
        }
    }
}

// The warp that copies pages [first_page, end_page).
template <class S>
DEVICE void copy_pages(const AttentionParams &params, const Lines &lines, const HopperMemory<S> &memory,
                       Positions seen, unsigned first_page, unsigned end_page) {
    const unsigned *table = params.batch.block_tables + lines.span.first_entry;
    const unsigned lane = threadIdx.x % WARP_LANES;
    Turn<S::STAGES> turn;
    unsigned entry = table[first_page];
    for (unsigned page = first_page; page < end_page; ++page, turn.advance()) {
        const unsigned char *stored = kv_head(params.kv, entry, lines.kv_head);
        // Read a page ahead: the next copy does not wait for it.
        entry = page + 1 < end_page ? table[page + 1] : 0;
        const unsigned position = page * KV_PAGE_TOKENS;
        const unsigned first = max(seen.first, position) - position;
        const unsigned end = min(seen.end - position, static_cast<unsigned>(KV_PAGE_TOKENS));
        unsigned char *stage = memory.stage(turn.slot);
        // In the first round there is nothing to wait for, which the other parity says.
        barrier_wait(memory.empty(turn.slot), turn.parity ^ 1u);
        if (end - first == KV_PAGE_TOKENS) {
            if (lane == 0) {
                barrier_arrive_expecting(memory.full(turn.slot), S::STAGE_BYTES);
                copy_bulk(shared_address(stage), stored, S::STAGE_BYTES, memory.full(turn.slot));
            }
        } else {
            copy_rows<S>(stored, stage, first, end, memory.full(turn.slot));
        }
    }
}

// A warp of the multiplying warpgroups, through pages [first_page, end_page).
template <class S>
class HopperAttention {
  public:
    METHOD HopperAttention(const AttentionParams &params, const Lines &lines, const HopperMemory<S> &memory)
        : params(params), memory(memory) {
        stage_queries<S>(params, lines, memory.queries());
        fence_async_proxy();
        named_barrier(1, S::N_THREADS);
        queries = shared_address(memory.queries());
        if constexpr (S::HELD_QUERIES) {
#pragma unroll
            for (unsigned step = 0; step < S::K_STEPS; ++step) {
                load_queries<S>(place, queries, step, held[step]);
            }
        }
        values_at = S::STAGE_BYTES / 2 + place.column_warp * (S::N_PANELS / S::COLUMN_GROUPS) * S::PANEL_BYTES;
        look<S>(params, lines, place, state);
        state.clear();
        whole.clear();
    }

    METHOD void attend(unsigned first_page, unsigned end_page) {
        Turn<S::STAGES> turn;
        barrier_wait(memory.full(turn.slot), turn.parity);
        start_scores(shared_address(memory.stage(turn.slot)));
        warpgroup_wait<0>();
        hold_accumulators(scores);
        score<S>(params, place, state, first_page * KV_PAGE_TOKENS, nullptr, scores);
        weigh();
#pragma unroll 1
        for (unsigned page = first_page + 1; page < end_page; ++page) {
            const unsigned before = turn.slot;
            turn.advance();
            barrier_wait(memory.full(turn.slot), turn.parity);
            start_scores(shared_address(memory.stage(turn.slot)));
            start_values(shared_address(memory.stage(before)));
            warpgroup_wait<1>();
            hold_accumulators(scores);
            score<S>(params, place, state, page * KV_PAGE_TOKENS, nullptr, scores);
            warpgroup_wait<0>();
            hold_accumulators(state.sums);
            release(before);
            if (page % ATTENTION_SPLIT_PAGES == 0) {
                whole.add(state);
                state.clear();
            }
            weigh();
        }
        start_values(shared_address(memory.stage(turn.slot)));
        warpgroup_wait<0>();
        hold_accumulators(state.sums);
        whole.add(state);
    }

    METHOD void store(const Lines &lines) const { whole.store(params, lines, place); }

  private:
    // Starts q·k of the warpgroup's lines and the positions of a stage, by k steps in their order.
    METHOD void start_scores(uint32_t keys) {
        constexpr unsigned PANEL_STEPS = S::ROW_BYTES / 32;
        hold_accumulators(scores);
        warpgroup_fence();
#pragma unroll
        for (unsigned step = 0; step < S::K_STEPS; ++step) {
            const unsigned panel = step / PANEL_STEPS, within = step % PANEL_STEPS * 32;
            const uint64_t b = describe_panel<S::ROW_BYTES>(keys + panel * S::PANEL_BYTES + within);
            if constexpr (S::HELD_QUERIES) {
                warpgroup_mma_bf16(scores, held[step], b, step == 0);
            } else {
                const uint32_t rows = queries + panel * S::QUERY_PANEL_BYTES + within;
                warpgroup_mma_bf16(scores, describe_panel<S::ROW_BYTES>(rows), b, step == 0);
            }
        }
        warpgroup_commit();
    }

    // Starts o += P · V for the warpgroup's columns and the positions of a stage, in their order.
    METHOD void start_values(uint32_t stage) {
        hold_accumulators(state.sums);
        warpgroup_fence();
#pragma unroll
        for (unsigned step = 0; step < 2; ++step) {
            const uint32_t rows = stage + values_at + step * 16 * S::ROW_BYTES;
            const uint64_t b = describe_panel<S::ROW_BYTES>(rows, S::PANEL_BYTES);
            warpgroup_mma_bf16_columns(state.sums, weights[step], b, false);
        }
        warpgroup_commit();
    }

    // Makes weights of the scores at hand, as operand A.
    METHOD void weigh() {
        state.refer_to(scores);
        state.weigh(scores);
        pack_weights(scores, 0, weights[0]);
        pack_weights(scores, 1, weights[1]);
    }

    // The warp is done with a stage.
    METHOD void release(unsigned stage) {
        __syncwarp();
        if (place.lane == 0) {
            barrier_arrive(memory.empty(stage));
        }
    }

    const AttentionParams &params;
    const HopperMemory<S> &memory;
    Place<S> place;
    uint32_t queries;   // of the block's lines, one warpgroup's where they are not held
    uint32_t held[S::HELD_QUERIES ? S::K_STEPS : 1][4];
    uint32_t values_at; // of the warpgroup's columns, in a stage
    State<S> state;
    Whole<S> whole;
    float scores[S::SCORE_BLOCKS][4];
    uint32_t weights[2][4];
};

// Grid: (tiles of all spans of more than ATTENTION_DECODE_ROWS rows, n_kv_heads). Block:
// ATTENTION_HOPPER_THREADS, with barriers, queries and stages in dynamic shared memory.
template <class S>
DEVICE void attention_hopper(const AttentionParams &params) {
    const HopperMemory<S> memory;
    if (threadIdx.x == 0) {
        for (unsigned i = 0; i < S::STAGES; ++i) {
            barrier_init(memory.full(i), 1);
            barrier_init(memory.empty(i), S::N_THREADS / WARP_LANES);
        }
        barrier_init_fence();
    }
    __syncthreads();
    // Later tiles see more: they go first, so that no long one is left over at the end.
    const Lines lines = tile_lines<S>(params, gridDim.x - 1 - blockIdx.x);
    const Positions seen = lines.seen(params);
    const unsigned first_page = seen.first / KV_PAGE_TOKENS;
    const unsigned end_page = (seen.end + KV_PAGE_TOKENS - 1) / KV_PAGE_TOKENS;
    if (threadIdx.x < WARPGROUP_THREADS) {
        give_registers<40>();
        if (threadIdx.x < WARP_LANES) {
            copy_pages<S>(params, lines, memory, seen, first_page, end_page);
        }
    } else {
        take_registers<232>();
        HopperAttention<S> attention(params, lines, memory);
        attention.attend(first_page, end_page);
        attention.store(lines);
    }
}
