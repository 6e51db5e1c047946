// The paged cache of keys and values: where an element lies.
//
// A page holds KV_PAGE_TOKENS positions of every layer and head; the layers, and the heads of a
// layer, follow one another in it. What is stored of a head in a page is what a block wants in
// shared memory, byte by byte, so a copy of it is one run of 16-byte words:
//
//   bf16    keys [32][width] · values [32][width]
//   8 bits  keys [32][width] · values [32][width] · key scales [32] · value scales [32], in f32
//
// A row of bf16 is cut into chunks of 8 elements, and row r keeps chunk c at c ^ kv_swizzle(r):
// then the same chunk of 8 rows, which is what ldmatrix reads, lies in 8 different groups of 4
// shared memory banks whatever the width. Rows of 8 bits stand as they are: they are widened
// before tensor cores read them.
#pragma once

#include "device/kernel.cuh"
#include "device/kv.h"

// Elements of a chunk of bf16.
constexpr unsigned KV_CHUNK = 8;

// What row `row` of `n_chunks` 16-byte chunks has its chunk numbers exclusive-or'ed with. With
// e = the greatest power of two, up to 8, that divides n_chunks, each run of 8 / e rows begins
// e banks groups further on by itself; the swizzle tells the e runs apart.
DEVICE constexpr unsigned kv_swizzle(unsigned row, unsigned n_chunks) {
    const unsigned divisor = n_chunks & (0u - n_chunks);
    const unsigned runs = divisor < 8 ? divisor : 8;
    return row / (8 / runs) % runs;
}

// The byte at which a chunk of a row begins in a tile of rows of bf16.
DEVICE constexpr unsigned kv_chunk_offset(unsigned row, unsigned chunk, unsigned n_chunks) {
    return (row * n_chunks + (chunk ^ kv_swizzle(row, n_chunks))) * 16;
}

// What is stored of a head in a page.
DEVICE unsigned char *kv_head(const KvLayer &layer, unsigned page, unsigned head) {
    return layer.pages + page * layer.page_bytes + static_cast<size_t>(head) * layer.head_bytes;
}
