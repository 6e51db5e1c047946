// attention: the pages that a block goes through, copied into shared memory ahead of their use.
#pragma once

#include "ops/attention/output.cuh"

// Pages [page, end) of a sequence, of which the positions `known` are stored and of use.
template <class S>
class Ring {
  public:
    __device__ __forceinline__ Ring(const AttentionParams &params, const Lines &lines, const Memory<S> &memory, Positions known,
                unsigned first_page, unsigned end_page)
        : kv(params.kv), table(params.batch.block_tables + lines.span.first_entry), memory(memory), known(known),
          kv_head_index(lines.kv_head), page(first_page), end(end_page) {
        entry = page < end ? table[page] : 0;
        for (unsigned i = 0; i + 1 < S::STAGES; ++i) {
            start_next();
        }
    }

    // Waits for the next page and gives its place, whose content stays until the next call. All
    // threads of the block take part.
    __device__ __forceinline__ unsigned char *next() {
        cp_async_wait<S::STAGES - 2>();
        // Everyone's copies are there, and everyone is done with the page before.
        __syncthreads();
        start_next();
        unsigned char *ready = memory.stage(ready_stage);
        ready_stage = ready_stage + 1 == S::STAGES ? 0 : ready_stage + 1;
        return ready;
    }

  private:
    // Past the end the groups are empty, so that their count stays the same.
    __device__ __forceinline__ void start_next() {
        if (page < end) {
            const int first_position = static_cast<int>(page * KV_PAGE_TOKENS);
            start_copy<S>(kv_head(kv, entry, kv_head_index), memory.stage(free_stage),
                          static_cast<int>(known.first) - first_position,
                          static_cast<int>(known.end) - first_position);
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
    Positions known;
    unsigned kv_head_index;
    unsigned page, end; // yet to be copied
    unsigned entry;     // of `page`
    unsigned free_stage = 0, ready_stage = 0;
};
