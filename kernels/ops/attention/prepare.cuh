// attention of spans of few rows: a block's queries, and the new key and value that it attends to,
// from what the matmul left of them.
//
// A warp takes a head at a time. Where the launch appends, every span has one row; queries and the
// key are normalised and turned with the functions of rope_append, and so to the same bits. The
// new position is the last that the row sees, so it lies in the last page of the last split: the
// block of that split stores it to the page, and keeps it in registers until it comes to that page
// itself, whose copy leaves that position out. So no block reads what another one of the launch
// writes; blocks of further lines of the same key head prepare it likewise and store nothing.
//
//   warp 0  the key           warp 1  the value           then all warps: lines of queries
//
// (Surplus rows of a step all stand in one spare page, each at a position of its own: they may
// read of each other what is there before or after. Nothing that they come to is looked at.)
#pragma once

#include "ops/attention/ring.cuh"
#include "ops/rope_append/heads.cuh"

template <bool EIGHT_BIT, unsigned PARTS>
struct RowOf {
    typedef Bf16Row<PARTS> Type;
};

template <unsigned PARTS>
struct RowOf<true, PARTS> {
    typedef EightBitRow<PARTS> Type;
};

// The new position of a block: warp 0 has its key, warp 1 its value, if the position is the block's.
template <class S>
struct NewPosition {
    static constexpr unsigned PARTS = parts_of(S::WIDTH);

    unsigned position;
    bool is_here;
    typename RowOf<S::EIGHT_BIT, PARTS>::Type row;

    // That of a span of one row, for the block of the pages [.., end_page) that the row sees.
    METHOD NewPosition(const AttentionParams &params, const BatchSpan &span, unsigned end_page)
        : position(span.position),
          is_here(params.appends != 0 && end_page * KV_PAGE_TOKENS > span.position), row{} {}

    METHOD bool is_in(unsigned page) const { return is_here && page == position / KV_PAGE_TOKENS; }

    // Writes key and value to what is stored of the block's key head: in a page, or in the copy of
    // it in shared memory.
    METHOD void store(unsigned char *stored) const {
        const unsigned warp = threadIdx.x / WARP_LANES;
        if (warp < 2) {
            row.store(stored, S::WIDTH, warp, position % KV_PAGE_TOKENS);
        }
    }
};

// What the warps have of shared memory while they prepare: the ring's last stage, which is free
// until the first page is waited for, and the block's queries themselves.
template <class S>
struct Workshop {
    // A row of queries fills all banks, or panels that are alone; else they are placed by all threads
    // together, from rows that lie one after another.
    static constexpr bool PLACES_LATER = S::PANEL_CHUNKS < 8 && S::PANEL_CHUNKS < S::CHUNKS;
    static constexpr unsigned N_WARPS = S::N_THREADS / WARP_LANES;
    static constexpr unsigned TURN_BYTES = (N_WARPS + 1) * S::WIDTH * sizeof(float);

    static_assert(TURN_BYTES <= (PLACES_LATER ? S::QUERY_BYTES : S::STAGE_BYTES), "room for each warp");
    static_assert(S::QUERY_BYTES <= (S::EIGHT_BIT ? S::TILE_BYTES : S::STAGE_BYTES), "room for the queries");
    static_assert(N_WARPS > 1 && S::N_LINES % N_WARPS == 0, "warps for a key and a value, lines for all");

    unsigned char *queries; // as tensor cores read them
    unsigned char *rows;    // of PLACES_LATER
    float *turning;         // a head of each warp
    Turns turns;

    METHOD explicit Workshop(const Memory<S> &memory) {
        unsigned char *free = memory.stage(S::STAGES - 1);
        queries = memory.base;
        rows = S::EIGHT_BIT ? memory.widened() : free;
        float *floats = reinterpret_cast<float *>(PLACES_LATER ? queries : free);
        turns = {floats, floats + S::WIDTH / 2};
        turning = floats + (1 + threadIdx.x / WARP_LANES) * S::WIDTH;
    }

    // Rounds a line of queries to bf16, where it belongs or on its way there.
    METHOD void put(unsigned line, const Elements<parts_of(S::WIDTH)> &x) const {
#pragma unroll
        for (unsigned part = 0; part < parts_of(S::WIDTH); ++part) {
            const unsigned element = first_element(part);
            if (element < S::WIDTH) {
                const float(&of)[LANE_ELEMENTS] = x[part].lane;
                const Pack<uint32_t, 2> words = {{pack_bf16(of[0], of[1]), pack_bf16(of[2], of[3])}};
                unsigned char *to = rows + (line * S::WIDTH + element) * 2;
                if constexpr (!PLACES_LATER) {
                    to = queries + kv_chunk_offset(line, element / KV_CHUNK, S::CHUNKS, S::N_LINES) +
                         element % KV_CHUNK * 2;
                }
                store_pack<2>(reinterpret_cast<uint32_t *>(to), words);
            }
        }
    }

    // Puts all lines where they belong, if they are not. All threads take part.
    METHOD void place() const {
        if constexpr (PLACES_LATER) {
            __syncthreads();
            for (unsigned i = threadIdx.x; i < S::N_LINES * S::CHUNKS; i += S::N_THREADS) {
                const ChunkPlace at = nth_chunk<S>(i, S::N_LINES);
                const unsigned char *from = rows + (at.row * S::CHUNKS + at.chunk) * KV_CHUNK * 2;
                unsigned char *to = queries + kv_chunk_offset(at.row, at.chunk, S::CHUNKS, S::N_LINES);
                store_pack<4>(reinterpret_cast<uint32_t *>(to),
                              load_pack<4>(reinterpret_cast<const uint32_t *>(from)));
            }
        }
    }
};

// Stages the block's queries, zeros where there is no line, and stores the new position if it is
// the block's. What is in shared memory is there after the next barrier.
template <class S>
DEVICE void prepare(const AttentionParams &params, const Lines &lines, const Memory<S> &memory,
                    NewPosition<S> &fresh) {
    constexpr unsigned N_WARPS = Workshop<S>::N_WARPS;
    const Workshop<S> workshop(memory);
    const unsigned warp = threadIdx.x / WARP_LANES;
    const unsigned head_dim = params.kv.head_dim;
    const unsigned n_heads = params.n_heads, n_kv_heads = params.n_kv_heads;
    const size_t row_width = static_cast<size_t>(n_heads + 2 * n_kv_heads) * head_dim;
    const RopeNorm &rope = params.rope;
    Elements<parts_of(S::WIDTH)> x, next = {};

    // The next head is on its way while one is worked on.
    const auto load_line = [&](unsigned i) {
        const unsigned line = lines.first + i;
        if (i < S::N_LINES && line < lines.end) {
            load_head(params.qkv + lines.batch_row(line) * row_width + lines.head(line) * head_dim, head_dim, next);
        }
    };
    // The warps that have no key or value begin.
    const unsigned first = (warp + N_WARPS - 2) % N_WARPS;
    load_line(first);
    if (rope.n_pairs > 0) {
        find_turns(rope, lines.span.position, workshop.turns, S::N_THREADS);
        __syncthreads();
    }
    if (fresh.is_here && warp < 2) {
        const unsigned head = n_heads + warp * n_kv_heads + lines.kv_head;
        load_head(params.qkv + lines.span.first_row * row_width + head * head_dim, head_dim, x);
        if (warp == 0) {
            prepare_head(rope, head_dim, rope.k_norm, workshop.turns, workshop.turning, x);
        }
        fresh.row.round(x);
        if (lines.first == 0) {
            const unsigned *table = params.batch.block_tables + lines.span.first_entry;
            fresh.store(kv_head(params.kv, table[fresh.position / KV_PAGE_TOKENS], lines.kv_head));
        }
    }
#pragma unroll 1
    for (unsigned i = first; i < S::N_LINES; i += N_WARPS) {
#pragma unroll
        for (unsigned part = 0; part < parts_of(S::WIDTH); ++part) {
            x[part] = next[part];
            next[part] = {};
        }
        load_line(i + N_WARPS);
        if (lines.first + i < lines.end) {
            prepare_head(rope, head_dim, rope.q_norm, workshop.turns, workshop.turning, x);
        }
        workshop.put(i, x);
    }
    workshop.place();
}
