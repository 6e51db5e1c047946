// attention: which queries a block has, and what they see.
//
// The query heads that share a key head have their queries side by side: line i of a span is
// query head i % group of row i / group. Lines are what tensor cores take 16 of.
#pragma once

#include "device/kernel.cuh"
#include "ops/attention/params.h"

// Positions [first, end).
struct Positions {
    unsigned first, end;
};

// What a row of a span sees.
DEVICE Positions seen_by(const AttentionParams &params, const BatchSpan &span, unsigned row) {
    const unsigned position = span.position + row;
    const unsigned block_end = (position / params.block + 1) * params.block;
    return {position + 1 > params.window ? position + 1 - params.window : 0,
            min(block_end, span.position + span.n_rows)};
}

// The lines of a block: those of one key head and some rows of one span.
struct Lines {
    BatchSpan span;
    unsigned kv_head;
    unsigned group; // query heads of the key head
    unsigned first; // of the span's lines
    unsigned end;

    __device__ __forceinline__ unsigned row(unsigned line) const { return line / group; }
    __device__ __forceinline__ unsigned head(unsigned line) const { return kv_head * group + line % group; }
    __device__ __forceinline__ size_t batch_row(unsigned line) const { return span.first_row + row(line); }

    // What any line sees.
    __device__ __forceinline__ Positions seen(const AttentionParams &params) const {
        return {seen_by(params, span, row(first)).first, seen_by(params, span, row(end - 1)).end};
    }
};

// Up to `n_lines` lines from `first` on.
DEVICE Lines lines_of(const AttentionParams &params, const BatchSpan &span, unsigned kv_head, unsigned first,
                      unsigned n_lines) {
    const unsigned group = params.n_heads / params.n_kv_heads;
    return {span, kv_head, group, first, min(first + n_lines, span.n_rows * group)};
}
