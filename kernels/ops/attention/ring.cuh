// attention: the pages that a block goes through, copied into shared memory ahead of their use.
#pragma once

#include "ops/attention/tile.cuh"

// Pages [page, end) of a sequence, of which `seen` is known and of use.
template <class S>
class Ring {
  public:
    __device__ __forceinline__ Ring(const AttentionParams &params, const Lines &lines, const Memory<S> &memory, Positions seen,
                unsigned first_page, unsigned end_page)
        : kv(params.kv), table(params.batch.block_tables + lines.span.first_entry), memory(memory), seen(seen),
          kv_head_index(lines.kv_head), page(first_page), end(end_page) {
        entry = page < end ? table[page] : 0;
        for (unsigned i = 0; i + 1 < S::STAGES; ++i) {
            start_next();
        }
    }

    // Waits for the next page and gives its place, whose content stays until the next call. All
    // threads of the block take part.
    __device__ __forceinline__ const unsigned char *next() {
        cp_async_wait<S::STAGES - 2>();
        // Everyone's copies are there, and everyone is done with the page before.
        __syncthreads();
        start_next();
        const unsigned char *ready = memory.stage(ready_stage);
        ready_stage = ready_stage + 1 == S::STAGES ? 0 : ready_stage + 1;
        return ready;
    }

  private:
    // Past the end the groups are empty, so that their count stays the same.
    __device__ __forceinline__ void start_next() {
        if (page < end) {
            const int first_position = static_cast<int>(page * KV_PAGE_TOKENS);
            start_copy<S>(kv_head(kv, entry, kv_head_index), memory.stage(free_stage),
                          static_cast<int>(seen.first) - first_position,
                          static_cast<int>(seen.end) - first_position);
            free_stage = free_stage + 1 == S::STAGES ? 0 : free_stage + 1;
            page += 1;
            // Read a page ahead: the next copy does not wait for it.
            entry = page < end ? table[page] : 0;
        }
        cp_async_commit();
    }

    const KvLayer &kv;
    const unsigned *table;
    const Memory<S> &memory;
    Positions seen;
    unsigned kv_head_index;
    unsigned page, end; // yet to be copied
    unsigned entry;     // of `page`
    unsigned free_stage = 0, ready_stage = 0;
};

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

// Writes the thread's part of a line's output, `take(i, j)` being value j of column block i.
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
            (i / 2 * S::COLUMN_WARPS + place.column_warp) * 16 + i % 2 * 8 + place.pair * 2;
        if (column < head_dim) {
            store_pack<2>(out + column, Pack<float, 2>{{take(i / 2, i % 2, 0), take(i / 2, i % 2, 1)}});
        }
    }
}
