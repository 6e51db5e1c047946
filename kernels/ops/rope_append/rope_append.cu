// rope_append: an RMS norm of query and key heads, their rotation, and the store of keys and
// values in the paged cache; formula in mod.rs, what a warp does in heads.cuh.
//
// A block takes ROPE_APPEND_HEADS heads of a row, a warp each, and begins with the cosines and
// sines of the row's position. Bound by memory: a row moves 4 bytes an element in, and out 4 for
// queries, 2 for keys and values of bf16, 1 for those of 8 bits.

#include "ops/rope_append/heads.cuh"

constexpr unsigned PARTS = parts_of(KV_MAX_WIDTH);

template <class Row>
DEVICE void store_row(const KvLayer &kv, unsigned char *stored, unsigned which, unsigned slot,
                   const Elements<PARTS> &x) {
    Row row;
    row.round(x);
    row.store(stored, kv.width, which, slot);
}

// Writes a key (`which` 0) or a value (1) of a row to its page and slot.
DEVICE void append(const RopeAppendParams &params, unsigned row, unsigned position, unsigned head,
                   unsigned which, const Elements<PARTS> &x) {
    const KvLayer &kv = params.kv;
    const BatchArrays &batch = params.batch;
    const unsigned *table = batch.block_tables + batch.spans[batch.row_spans[row]].first_entry;
    const unsigned slot = position % KV_PAGE_TOKENS;
    unsigned char *stored = kv_head(kv, table[position / KV_PAGE_TOKENS], head);
    if (kv.eight_bit) {
        store_row<EightBitRow<PARTS>>(kv, stored, which, slot, x);
    } else {
        store_row<Bf16Row<PARTS>>(kv, stored, which, slot, x);
    }
}

// Grid: (n_rows, heads of queries, keys and values / ROPE_APPEND_HEADS).
KERNEL(rope_append, RopeAppendParams, ROPE_APPEND_THREADS, 4) {
    __shared__ __align__(16) float cosines[KV_MAX_WIDTH / 2], sines[KV_MAX_WIDTH / 2];
    __shared__ __align__(16) float turning[ROPE_APPEND_HEADS][KV_MAX_WIDTH];
    const unsigned warp = threadIdx.x / WARP_LANES;
    const unsigned row = blockIdx.x;
    const unsigned head = blockIdx.y * ROPE_APPEND_HEADS + warp;
    const unsigned n_heads = params.n_heads, n_kv_heads = params.n_kv_heads;
    const unsigned head_dim = params.kv.head_dim;
    const unsigned n_row_heads = n_heads + 2 * n_kv_heads;
    const RopeNorm &rope = params.rope;
    const unsigned position = params.batch.positions[row];

    const Turns turns = {cosines, sines};
    find_turns(rope, position, turns, ROPE_APPEND_THREADS);
    __syncthreads();
    if (head >= n_row_heads) {
        return;
    }
    float *source = params.qkv + (static_cast<size_t>(row) * n_row_heads + head) * head_dim;
    Elements<PARTS> x;
    load_head(source, head_dim, x);
    const bool is_query = head < n_heads;
    const bool is_value = head >= n_heads + n_kv_heads;
    if (!is_value) {
        prepare_head(rope, head_dim, is_query ? rope.q_norm : rope.k_norm, turns, turning[warp], x);
    }
    if (!is_query) {
        const unsigned which = is_value ? 1 : 0;
        append(params, row, position, head - n_heads - which * n_kv_heads, which, x);
        return;
    }
#pragma unroll
    for (unsigned part = 0; part < PARTS; ++part) {
        if (first_element(part) < head_dim) {
            store_pack<LANE_ELEMENTS>(source + first_element(part), x[part]);
        }
    }
}
