// attention: the states of a context's splits, by way of memory, and their sum in order.
//
// A group is a span, a key head and a tile of lines. Each of its blocks leaves the state of a split,
// and the last one to have done so adds the states up. None waits for another, so it does not
// matter how many run at once.
//
// Scratch, of the splits that are seen: slot first_entry / ATTENTION_SPLIT_PAGES + span + split
// holds decode_rows · n_heads states; n_done counts the splits of a group and is 0 again when all
// are merged, so that a launch may be repeated as it is.
#pragma once

#include "ops/attention/output.cuh"

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

// Whether this block is the last of its group's `n_splits` to have written its state: then it sees
// those of the others. All threads of the block take part; what is in shared memory is done with.
DEVICE bool is_last_split(const AttentionParams &params, unsigned n_splits) {
    auto *is_last = dynamic_shared<unsigned>();
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) {
        unsigned *n_done = params.n_done + blockIdx.z * gridDim.y + blockIdx.y;
        *is_last = atomicAdd(n_done, 1u) + 1 == n_splits;
        if (*is_last != 0) {
            *n_done = 0;
        }
    }
    __syncthreads();
    __threadfence();
    return *is_last != 0;
}

// Adds the states of each line's splits up, in order, a thread 4 columns.
template <class S>
DEVICE void merge(const AttentionParams &params, const Lines &lines) {
    constexpr unsigned PARTS = S::WIDTH / 4; // of a line
    const unsigned head_dim = params.kv.head_dim;
    for (unsigned i = threadIdx.x; i < (lines.end - lines.first) * PARTS; i += S::N_THREADS) {
        const unsigned line = lines.first + i / PARTS, column = i % PARTS * 4;
        const unsigned row = lines.row(line), head = lines.head(line);
        if (column >= head_dim) {
            continue;
        }
        const Positions seen = seen_by(params, lines.span, row);
        const unsigned first = seen.first / SPLIT_TOKENS, end = (seen.end - 1) / SPLIT_TOKENS + 1;
        float reference = -INFINITY, total = 0.0f;
        Pack<float, 4> sums = {};
        // Four states are on their way at a time.
#pragma unroll 4
        for (unsigned split = first; split < end; ++split) {
            const size_t index = state_index(params, lines.span, blockIdx.z, split, row, head);
            const auto [split_reference, split_total] = load_pack<2>(params.totals + index * 2).lane;
            const auto more = load_pack<4>(params.sums + index * S::WIDTH + column);
            const Fold fold(reference, split_reference);
            reference = fold.reference;
            total = fold(total, split_total);
#pragma unroll
            for (unsigned k = 0; k < 4; ++k) {
                sums.lane[k] = fold(sums.lane[k], more.lane[k]);
            }
        }
        const float inverse = 1.0f / total;
#pragma unroll
        for (unsigned k = 0; k < 4; ++k) {
            sums.lane[k] = normalised(sums.lane[k], inverse);
        }
        float *out = params.out + (lines.batch_row(line) * params.n_heads + head) * head_dim;
        store_pack<4>(out + column, sums);
    }
}
