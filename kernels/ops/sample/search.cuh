// Finding where a prefix of the order of probability ends, eleven bits of the key at a time.
//
// Each pass adds its tokens up in buckets by the next bits of their keys, first in shared memory,
// then in the row's histogram; the row's last block finds the bucket in which the prefix ends.
// Bits 21 to 31, 10 to 20, 0 to 9: three passes find any key, whatever the logits.
#pragma once

#include "ops/sample/row.cuh"

// What of shared memory a block uses when.
struct SampleShared {
    union {
        struct {
            // A mass in parts of 14 bits, so that a tile's sum of each fits a word: 32-bit
            // additions are one instruction in shared memory, 64-bit ones a loop.
            unsigned parts[3][SAMPLE_BUCKETS];
            unsigned tops[SAMPLE_BUCKETS];
        } histogram;
        struct {
            unsigned keys[SAMPLE_KEYS];
            unsigned top_ties[SAMPLE_TILE / 32];
        } tile;
        struct {
            // A gap after what each thread sums up keeps the threads in different banks.
            Mass amounts[SAMPLE_BUCKETS + SAMPLE_THREADS];
            Mass key_weights[SAMPLE_KEYS];
        } search;
        float logits[SAMPLE_TILE + SAMPLE_TILE / 32];
    };
    Mass scratch[WARP_LANES];
    Mass point;
    Mass kept_ties;
    unsigned tile_drawn;
    unsigned token;
    unsigned n_listed;
    unsigned is_last;
};
static_assert(sizeof(SampleShared) <= SAMPLE_SHARED_BYTES, "the launch gives too little");

template <int LEVEL>
struct Digit {
    static constexpr unsigned SHIFT = LEVEL == 0 ? 21 : LEVEL == 1 ? 10 : 0;
    static constexpr unsigned BUCKETS = LEVEL == 2 ? SAMPLE_KEYS : SAMPLE_BUCKETS;
    static constexpr unsigned EACH = BUCKETS / SAMPLE_THREADS;

    static __device__ __forceinline__ unsigned of(unsigned key) { return key >> SHIFT & (BUCKETS - 1); }

    // Whether the search has come to this key's bucket of the level before.
    static __device__ __forceinline__ bool reaches(unsigned key, unsigned prefix) {
        return LEVEL == 0 || (key >> SHIFT) / BUCKETS == prefix;
    }
};

DEVICE void clear(unsigned *words, unsigned n_words) {
    for (unsigned i = threadIdx.x; i < n_words; i += SAMPLE_THREADS) {
        words[i] = 0;
    }
}

DEVICE void clear_histograms(SampleShared &shared) {
    clear(&shared.histogram.parts[0][0], 3 * SAMPLE_BUCKETS);
    clear(shared.histogram.tops, SAMPLE_BUCKETS);
    __syncthreads();
}

template <int LEVEL>
DEVICE void add_token(unsigned (&counts)[SAMPLE_BUCKETS], unsigned key, const SampleSearch &search) {
    if (Digit<LEVEL>::reaches(key, search.prefix)) {
        atomicAdd(&counts[Digit<LEVEL>::of(key)], 1u);
    }
}

template <int LEVEL>
DEVICE void add_mass(SampleShared &shared, unsigned key, Mass mass, const SampleSearch &search) {
    if (mass > 0 && Digit<LEVEL>::reaches(key, search.prefix)) {
        const unsigned bucket = Digit<LEVEL>::of(key);
#pragma unroll
        for (unsigned part = 0; part < 3; ++part) {
            atomicAdd(&shared.histogram.parts[part][bucket],
                      static_cast<unsigned>(mass >> 14 * part) & 0x3fff);
        }
    }
}

// The row's histograms.
DEVICE unsigned *row_counts(const Row &row) {
    return row.arrays.counts_by_bucket + row.index * SAMPLE_BUCKETS;
}
DEVICE unsigned *row_tops(const Row &row) {
    return row.arrays.tops_by_bucket + row.index * SAMPLE_BUCKETS;
}
DEVICE Mass *row_masses(const Row &row) { return row.arrays.masses + row.index * SAMPLE_BUCKETS; }

DEVICE void flush_counts(const unsigned (&counts)[SAMPLE_BUCKETS], unsigned *sums) {
    for (unsigned bucket = threadIdx.x; bucket < SAMPLE_BUCKETS; bucket += SAMPLE_THREADS) {
        if (counts[bucket] > 0) {
            atomicAdd(&sums[bucket], counts[bucket]);
        }
    }
}

DEVICE void flush_masses(const SampleShared &shared, Mass *sums) {
    for (unsigned bucket = threadIdx.x; bucket < SAMPLE_BUCKETS; bucket += SAMPLE_THREADS) {
        Mass mass = 0;
#pragma unroll
        for (unsigned part = 0; part < 3; ++part) {
            mass += static_cast<Mass>(shared.histogram.parts[part][bucket]) << 14 * part;
        }
        if (mass > 0) {
            atomicAdd(&sums[bucket], mass);
        }
    }
}

// Adds what the block has in shared memory to the row's histograms.
DEVICE void flush(const Row &row, SampleShared &shared) {
    __syncthreads();
    if (row.goal == Goal::COUNT) {
        flush_counts(shared.histogram.parts[0], row_counts(row));
    }
    if (row.goal == Goal::MASS) {
        flush_masses(shared, row_masses(row));
    }
    if (row.slot->n_top > 0) {
        flush_counts(shared.histogram.tops, row_tops(row));
    }
}

// Whether this is the last of the row's blocks to come here: it sees what the others wrote.
DEVICE bool is_last_block(const Row &row, SampleShared &shared) {
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) {
        shared.is_last = atomicAdd(&row.work->n_blocks_done, 1u) + 1 == row.arrays.n_tiles;
        if (shared.is_last != 0) {
            row.work->n_blocks_done = 0;
        }
    }
    __syncthreads();
    __threadfence();
    return shared.is_last != 0;
}

// Moves a search on to the bucket, the highest first, in which what is missing is reached.
// amount(bucket) is called once for each.
template <int LEVEL, class Amount>
DEVICE void find_bucket(SampleSearch &search, SampleShared &shared, Amount amount) {
    constexpr unsigned EACH = Digit<LEVEL>::EACH, BUCKETS = Digit<LEVEL>::BUCKETS;
    Mass *amounts = shared.search.amounts;
    for (unsigned bucket = threadIdx.x; bucket < BUCKETS; bucket += SAMPLE_THREADS) {
        amounts[bucket + bucket / EACH] = amount(bucket);
    }
    __syncthreads();
    const unsigned thread_from_top = SAMPLE_THREADS - 1 - threadIdx.x;
    const unsigned first = thread_from_top * EACH + EACH - 1;
    Mass own[EACH], sum = 0;
#pragma unroll
    for (unsigned i = 0; i < EACH; ++i) {
        own[i] = amounts[first - i + thread_from_top];
        sum += own[i];
    }
    const Mass missing = search.missing;
    const unsigned prefix = search.prefix;
    Mass above = block_prefix(sum, shared.scratch).before;
#pragma unroll
    for (unsigned i = 0; i < EACH; ++i) {
        if (above < missing && missing <= above + own[i]) {
            search.prefix = prefix * Digit<LEVEL>::BUCKETS + first - i;
            search.missing = missing - above;
        }
        above += own[i];
    }
    __syncthreads();
}

// The same in a histogram of the row, which is zero again afterwards.
template <int LEVEL, class T>
DEVICE void find_in(T *histogram, SampleSearch &search, SampleShared &shared) {
    find_bucket<LEVEL>(search, shared, [=](unsigned bucket) -> Mass {
        const T amount = histogram[bucket];
        histogram[bucket] = 0;
        return amount;
    });
}

// Searches that count tokens, of both kinds.
template <int LEVEL>
DEVICE void find_tokens(const Row &row, SampleShared &shared) {
    if (row.goal == Goal::COUNT) {
        find_in<LEVEL>(row_counts(row), row.work->cut, shared);
    }
    if (row.slot->n_top > 0) {
        find_in<LEVEL>(row_tops(row), row.work->top, shared);
    }
}

// Those tokens of a pass.
template <int LEVEL>
DEVICE void add_tokens(const Row &row, SampleShared &shared, float raw, float logit) {
    if (row.goal == Goal::COUNT) {
        add_token<LEVEL>(shared.histogram.parts[0], order_key(logit), row.work->cut);
    }
    if (row.slot->n_top > 0) {
        add_token<LEVEL>(shared.histogram.tops, order_key(raw), row.work->top);
    }
}
