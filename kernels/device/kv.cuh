// The paged cache of keys and values: where an element lies.
//
// A page holds KV_PAGE_TOKENS positions of every layer and head; the layers, and the heads of a
// layer, follow one another in it. What is stored of a head in a page is what a block wants in
// shared memory, byte by byte, so a copy of it is one run of 16-byte words:
//
//   bf16    keys · values, each [panel][32][16, 32 or 64 elements]
//   8 bits  keys [32][width] · values [32][width] · key scales [32] · value scales [32], in f32
//
// The columns of bf16 are cut into panels: of 64 elements where that divides the width, else of 32
// or 16. A row of a panel, of 128, 64 or 32 bytes, is cut into chunks of 8 elements, and row r keeps
// chunk c at c ^ kv_swizzle(r). Then the same chunk of 8 rows, which is what ldmatrix reads, lies in
// 8 different groups of 4 shared memory banks whatever the width, and a panel is an operand of
// Hopper's warpgroups as it lies: these are their swizzles of so many bytes. Rows of 8 bits stand as
// they are: they are widened before tensor cores read them.
#pragma once

#include "device/kernel.cuh"
#include "device/kv.h"

// Elements of a chunk of bf16.
constexpr unsigned KV_CHUNK = 8;

// Chunks of a row of a panel: the greatest power of two, up to 8, that divides n_chunks.
DEVICE constexpr unsigned kv_panel_chunks(unsigned n_chunks) {
    const unsigned divisor = n_chunks & (0u - n_chunks);
    return divisor < 8 ? divisor : 8;
}

// What row `row` of a panel has its chunk numbers exclusive-or'ed with. Each run of rows that fills
// 128 bytes, all banks, has a number of its own.
DEVICE constexpr unsigned kv_swizzle(unsigned row, unsigned panel_chunks) {
    return row * panel_chunks / 8 % panel_chunks;
}

// The byte at which a chunk of a row begins in a tile of `n_rows` rows of bf16.
DEVICE constexpr unsigned kv_chunk_offset(unsigned row, unsigned chunk, unsigned n_chunks,
                                          unsigned n_rows = KV_PAGE_TOKENS) {
    const unsigned in_panel = kv_panel_chunks(n_chunks), within = chunk & (in_panel - 1);
    const unsigned placed = row * in_panel + (within ^ kv_swizzle(row, in_panel));
    return ((chunk - within) * n_rows + placed) * 16;
}

// What is stored of a head in a page.
DEVICE unsigned char *kv_head(const KvLayer &layer, unsigned page, unsigned head) {
    return layer.pages + page * layer.page_bytes + static_cast<size_t>(head) * layer.head_bytes;
}
