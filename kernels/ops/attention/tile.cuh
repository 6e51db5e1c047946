// attention: the arithmetic of a block, in decode and in prefill alike.
//
// A block has LINE_WARPS · 16 lines and goes through the pages that any of them sees. Of a page
//
//   scores   S = Q · Kᵀ       16 lines × 32 positions a warp, k over the elements of a head
//   weights  P = 2^(S − m)    state.cuh
//   values   O += P · V       16 lines × width, k over the 32 positions
//
// on tensor cores, with queries and weights as operand A and the cache as operand B. Where
// COLUMN_WARPS > 1, so many warps share 16 lines: each computes the scores of its part of the
// positions, all exchange them through shared memory, each weighs its part of the columns of V.
// What a sum is made of, and in which order, is the same for any LINE_WARPS and COLUMN_WARPS,
// so a row has the same bits in every kernel that is built from this file. A page of which a
// line sees nothing leaves its state as it is, to the bit.
//
// The positions fall into splits of ATTENTION_SPLIT_PAGES pages, cut at multiples of their
// length. Each begins with an empty state, and the states are added up in order.
//
// Pages come by cp.async into a ring of STAGES; those of 8 bits are then widened to bf16, which
// holds their integers exactly: the scale of a key multiplies its scores, the scale of a value
// its weights.
#pragma once

#include "device/kv.cuh"
#include "device/memory.cuh"
#include "device/ptx.cuh"
#include "ops/attention/lines.cuh"
#include "ops/attention/params.h"
#include "ops/attention/state.cuh"

// How a kernel cuts its work; what follows from it.
template <int WIDTH_, int LINE_WARPS_, int COLUMN_WARPS_, bool EIGHT_BIT_>
struct Shape {
    static constexpr unsigned WIDTH = WIDTH_;
    static constexpr unsigned COLUMN_WARPS = COLUMN_WARPS_;
    static constexpr bool EIGHT_BIT = EIGHT_BIT_;
    static constexpr unsigned N_LINES = ATTENTION_LINES * LINE_WARPS_;
    static constexpr unsigned N_THREADS = WARP_LANES * LINE_WARPS_ * COLUMN_WARPS_;

    static constexpr unsigned CHUNKS = WIDTH / KV_CHUNK; // of a row of bf16
    static constexpr unsigned PANEL_CHUNKS = kv_panel_chunks(CHUNKS);
    static constexpr unsigned K_STEPS = WIDTH / 16;      // of scores
    static constexpr unsigned SCORE_BLOCKS = 4 / COLUMN_WARPS;                            // of 8 positions
    static constexpr unsigned COLUMN_BLOCKS = (K_STEPS + COLUMN_WARPS - 1) / COLUMN_WARPS; // of 16 columns

    // Bytes in shared memory, in this order.
    static constexpr unsigned QUERY_BYTES = N_LINES * WIDTH * 2;
    static constexpr unsigned TILE_BYTES = 2 * KV_PAGE_TOKENS * WIDTH * 2; // keys and values in bf16
    static constexpr unsigned SCALE_BYTES = EIGHT_BIT ? 2 * KV_PAGE_TOKENS * 4 : 0;
    static constexpr unsigned STAGE_BYTES = (EIGHT_BIT ? TILE_BYTES / 2 : TILE_BYTES) + SCALE_BYTES;
    static constexpr unsigned STAGES = WIDTH <= 64 ? 4 : WIDTH <= 192 ? 3 : 2;
    // Floats between the scores of one line and the next: 8 banks on, so that 4 lines of pairs
    // are read without conflict.
    static constexpr unsigned SCORE_STRIDE = KV_PAGE_TOKENS + 8;

    static_assert(WIDTH % 16 == 0 && 4 % COLUMN_WARPS == 0, "whole tensor core operands");

    // Of the threads that compute: all.
    DEVICE unsigned thread() { return threadIdx.x; }
    DEVICE unsigned column_warp(unsigned warp) { return warp % COLUMN_WARPS; }
    DEVICE unsigned first_line(unsigned warp) { return warp / COLUMN_WARPS * ATTENTION_LINES; }
    // Which block of 16 columns a warp's block `i` is.
    DEVICE unsigned column_block(unsigned column_warp, unsigned i) { return i * COLUMN_WARPS + column_warp; }
};

// A thread's place: lane 4 · line + pair of an accumulator, which holds lines `line` and
// `line` + 8 of its warp's.
template <class S>
struct Place {
    unsigned lane = S::thread() % WARP_LANES;
    unsigned line = lane / 4;
    unsigned pair = lane % 4;
    unsigned column_warp = S::column_warp(S::thread() / WARP_LANES);
    unsigned first_line = S::first_line(S::thread() / WARP_LANES); // of the block's
    // Of a page's positions, where warps share them out.
    unsigned first_slot = column_warp * S::SCORE_BLOCKS * 8 % KV_PAGE_TOKENS;
};

// The block's shared memory.
template <class S>
struct Memory {
    unsigned char *base = dynamic_shared<unsigned char>();

    __device__ __forceinline__ unsigned char *stage(unsigned i) const { return base + S::QUERY_BYTES + i * S::STAGE_BYTES; }
    __device__ __forceinline__ unsigned char *widened() const { return stage(S::STAGES); }
    __device__ __forceinline__ float *scores() const {
        return reinterpret_cast<float *>(widened() + (S::EIGHT_BIT ? S::TILE_BYTES : 0));
    }
};

template <unsigned BLOCKS>
DEVICE void fill_zero(float (&accumulators)[BLOCKS][4]) {
#pragma unroll
    for (unsigned i = 0; i < BLOCKS * 4; ++i) {
        accumulators[i / 4][i % 4] = 0.0f;
    }
}

DEVICE uint32_t pack_bf16(float low, float high) {
    return static_cast<uint32_t>(__bfloat16_as_ushort(__float2bfloat16_rn(high))) << 16 |
           __bfloat16_as_ushort(__float2bfloat16_rn(low));
}

// Chunk number `i` of `n_rows` rows, in an order in which neighbours lie in different banks: row by
// row, where panels are as wide as all banks, else panel by panel.
struct ChunkPlace {
    unsigned row, chunk;
};

template <class S>
DEVICE ChunkPlace nth_chunk(unsigned i, unsigned n_rows) {
    if constexpr (S::PANEL_CHUNKS == 8) {
        return {i / S::CHUNKS % n_rows, i % S::CHUNKS};
    } else {
        const unsigned row = i / S::PANEL_CHUNKS, panel = row / n_rows;
        return {row % n_rows, panel * S::PANEL_CHUNKS + i % S::PANEL_CHUNKS};
    }
}

// Rounds the block's queries to bf16 into shared memory; zeros where there is no line.
template <class S>
DEVICE void stage_queries(const AttentionParams &params, const Lines &lines, unsigned char *to) {
    const unsigned head_dim = params.kv.head_dim;
    const size_t row_width = static_cast<size_t>(params.n_heads + 2 * params.n_kv_heads) * head_dim;
    // Half a chunk at a time: 16 bytes of f32, so that neighbours read side by side.
    for (unsigned i = S::thread(); i < 2 * S::N_LINES * S::CHUNKS; i += S::N_THREADS) {
        const ChunkPlace at = nth_chunk<S>(i / 2, S::N_LINES);
        const unsigned chunk = at.chunk, half = i % 2;
        const unsigned line = lines.first + at.row;
        Pack<uint32_t, 2> words = {};
        if (line < lines.end && chunk * KV_CHUNK < head_dim) {
            const float *query = params.qkv + lines.batch_row(line) * row_width +
                                 static_cast<size_t>(lines.head(line)) * head_dim +
                                 chunk * KV_CHUNK + half * (KV_CHUNK / 2);
            const auto values = load_pack<4>(query);
            words = {{pack_bf16(values.lane[0], values.lane[1]),
                      pack_bf16(values.lane[2], values.lane[3])}};
        }
        unsigned char *chunk_at = to + kv_chunk_offset(at.row, chunk, S::CHUNKS, S::N_LINES);
        store_pack<2>(reinterpret_cast<uint32_t *>(chunk_at) + 2 * half, words);
    }
}

// Starts to copy what is stored of a head in a page; rows from `first` to before `end`, zeros
// for the others: of them nothing may be known, and 0 · NaN is NaN.
template <class S>
DEVICE void start_copy(const unsigned char *stored, unsigned char *to, int first, int end) {
    constexpr unsigned WORDS = 2 * KV_PAGE_TOKENS * S::WIDTH * (S::EIGHT_BIT ? 1 : 2) / 16;
    constexpr unsigned ROW_WORDS = S::EIGHT_BIT ? S::WIDTH / 16 : S::PANEL_CHUNKS; // side by side
    const uint32_t shared = shared_address(to);
    for (unsigned i = threadIdx.x; i < WORDS; i += S::N_THREADS) {
        const int row = static_cast<int>(i / ROW_WORDS % KV_PAGE_TOKENS);
        cp_async_16(shared + i * 16, stored + i * 16, row >= first && row < end ? 16 : 0);
    }
    if (S::EIGHT_BIT && threadIdx.x < S::SCALE_BYTES / 16) {
        const unsigned i = WORDS + threadIdx.x;
        const int first_row = static_cast<int>(threadIdx.x * 4 % KV_PAGE_TOKENS);
        const unsigned known = min(max(end - first_row, 0), 4);
        cp_async_16(shared + i * 16, stored + i * 16, known * 4);
    }
}

// Two integers of 8 bits, in the low bytes of the halves of a word, to bf16. With the low 7 bits
// as the mantissa of 128 + x; 128 or, of a negative one, 256 is taken off again. Exact.
DEVICE uint32_t widen_pair(uint32_t bytes) {
    const uint32_t shifted = (bytes & 0x007f007f) | 0x43004300;
    const uint32_t offset = (bytes & 0x00800080) | 0xc300c300;
    const __nv_bfloat162 sum = __hadd2(reinterpret_cast<const __nv_bfloat162 &>(shifted),
                                       reinterpret_cast<const __nv_bfloat162 &>(offset));
    return reinterpret_cast<const uint32_t &>(sum);
}

// Keys and values of a page of 8 bits to rows of bf16.
template <class S>
DEVICE void widen(const unsigned char *from, unsigned char *to) {
    constexpr unsigned N_CHUNKS = KV_PAGE_TOKENS * S::CHUNKS; // of keys, and of values
    for (unsigned i = threadIdx.x; i < 2 * N_CHUNKS; i += S::N_THREADS) {
        const unsigned values = i / N_CHUNKS;
        const ChunkPlace at = nth_chunk<S>(i % N_CHUNKS, KV_PAGE_TOKENS);
        const unsigned stored = values * N_CHUNKS + at.row * S::CHUNKS + at.chunk;
        const auto bytes = load_pack<2>(reinterpret_cast<const uint32_t *>(from + stored * KV_CHUNK));
        Pack<uint32_t, 4> words;
#pragma unroll
        for (unsigned k = 0; k < 4; ++k) {
            words.lane[k] = widen_pair(__byte_perm(bytes.lane[k / 2], 0, k % 2 == 0 ? 0x4140 : 0x4342));
        }
        const unsigned chunk = values * (S::TILE_BYTES / 2) + kv_chunk_offset(at.row, at.chunk, S::CHUNKS);
        store_pack<4>(reinterpret_cast<uint32_t *>(to + chunk), words);
    }
}

// The warp's queries of one k step, as operand A.
template <class S>
DEVICE void load_queries(const Place<S> &place, uint32_t queries, unsigned step, uint32_t (&a)[4]) {
    const unsigned row = place.first_line + place.lane % 16;
    ldmatrix_x4(a, queries + kv_chunk_offset(row, 2 * step + place.lane / 16, S::CHUNKS, S::N_LINES));
}

// q·k of the warp's lines and its part of the positions, by k steps in their order.
template <class S>
DEVICE void multiply_keys(const Place<S> &place, uint32_t queries, uint32_t keys,
                          float (&products)[S::SCORE_BLOCKS][4]) {
    const unsigned first_row = place.first_slot + place.lane % 8;
#pragma unroll
    for (unsigned step = 0; step + 1 < S::K_STEPS; step += 2) {
        uint32_t a[2][4];
        load_queries<S>(place, queries, step, a[0]);
        load_queries<S>(place, queries, step + 1, a[1]);
#pragma unroll
        for (unsigned block = 0; block < S::SCORE_BLOCKS; ++block) {
            uint32_t b[4];
            ldmatrix_x4(b, keys + kv_chunk_offset(first_row + block * 8, 2 * step + place.lane / 8, S::CHUNKS));
            mma_bf16(products[block], a[0], b[0], b[1]);
            mma_bf16(products[block], a[1], b[2], b[3]);
        }
    }
    if constexpr (S::K_STEPS % 2 == 1) {
        constexpr unsigned STEP = S::K_STEPS - 1;
        uint32_t a[4];
        load_queries<S>(place, queries, STEP, a);
#pragma unroll
        for (unsigned block = 0; block < S::SCORE_BLOCKS; ++block) {
            uint32_t b[2];
            const unsigned chunk = 2 * STEP + place.lane / 8 % 2;
            ldmatrix_x2(b, keys + kv_chunk_offset(first_row + block * 8, chunk, S::CHUNKS));
            mma_bf16(products[block], a, b[0], b[1]);
        }
    }
}

// The weights of 16 positions as operand A: an accumulator's lane holds what the operand's holds.
DEVICE void pack_weights(const float (&weights)[4][4], unsigned step, uint32_t (&a)[4]) {
#pragma unroll
    for (unsigned i = 0; i < 4; ++i) {
        const float *pair = &weights[2 * step + i / 2][i % 2 * 2];
        a[i] = pack_bf16(pair[0], pair[1]);
    }
}

// o += P · V for the warp's columns, by positions in their order.
template <class S>
DEVICE void add_values(const Place<S> &place, uint32_t values, const float (&weights)[4][4],
                      float (&o)[2 * S::COLUMN_BLOCKS][4]) {
#pragma unroll
    for (unsigned step = 0; step < 2; ++step) {
        uint32_t a[4];
        pack_weights(weights, step, a);
        const unsigned row = step * 16 + place.lane % 16;
#pragma unroll
        for (unsigned i = 0; i < S::COLUMN_BLOCKS; ++i) {
            const unsigned block = S::column_block(place.column_warp, i);
            if (S::K_STEPS % S::COLUMN_WARPS == 0 || block < S::K_STEPS) {
                uint32_t b[4];
                ldmatrix_x4_trans(b, values + kv_chunk_offset(row, 2 * block + place.lane / 16, S::CHUNKS));
                mma_bf16(o[2 * i], a, b[0], b[1]);
                mma_bf16(o[2 * i + 1], a, b[2], b[3]);
            }
        }
    }
}

// A thread's two lines: what they see, and their state in the split at hand.
template <class S>
struct State {
    Positions seen[2];
    float reference[2];
    float total[2]; // of the thread's positions; the four threads of a line add up to it
    float sums[2 * S::COLUMN_BLOCKS][4]; // by 8 columns

    __device__ __forceinline__ void clear() {
#pragma unroll
        for (unsigned half = 0; half < 2; ++half) {
            reference[half] = -INFINITY;
            total[half] = 0.0f;
        }
#pragma unroll
        for (unsigned i = 0; i < S::COLUMN_BLOCKS * 8; ++i) {
            sums[i / 4][i % 4] = 0.0f;
        }
    }

    // Moves the references to where this page's scores need them.
    __device__ __forceinline__ void refer_to(const float (&scores)[4][4]) {
        float factor[2];
        bool moved = false;
#pragma unroll
        for (unsigned half = 0; half < 2; ++half) {
            float greatest = -INFINITY;
#pragma unroll
            for (unsigned i = 0; i < 8; ++i) {
                greatest = fmaxf(greatest, scores[i / 2][half * 2 + i % 2]);
            }
            greatest = fmaxf(greatest, __shfl_xor_sync(FULL_WARP, greatest, 1));
            greatest = fmaxf(greatest, __shfl_xor_sync(FULL_WARP, greatest, 2));
            const float before = reference[half];
            if (greatest > before + SLACK) {
                reference[half] = greatest;
                moved = true;
            }
            factor[half] = exp2f(before - finite_reference(reference[half]));
        }
        // A factor of 1 changes nothing, so it may be left out where all have it.
        if (__any_sync(FULL_WARP, moved)) {
            total[0] *= factor[0];
            total[1] *= factor[1];
#pragma unroll
            for (unsigned i = 0; i < S::COLUMN_BLOCKS * 8; ++i) {
                sums[i / 4][i % 4] *= factor[i % 4 / 2];
            }
        }
    }

    // Makes weights of scores. −∞ becomes 0.
    __device__ __forceinline__ void weigh(float (&scores)[4][4]) {
#pragma unroll
        for (unsigned half = 0; half < 2; ++half) {
            const float finite = finite_reference(reference[half]);
#pragma unroll
            for (unsigned i = 0; i < 8; ++i) {
                float &score = scores[i / 2][half * 2 + i % 2];
                score = exp2f(score - finite);
                total[half] += score;
            }
        }
    }

    // The sum of a line's weights, in all its threads.
    __device__ __forceinline__ float line_total(unsigned half) const {
        float sum = total[half];
        sum += __shfl_xor_sync(FULL_WARP, sum, 1);
        sum += __shfl_xor_sync(FULL_WARP, sum, 2);
        return sum;
    }
};

// Scores, in powers of two, from products; −∞ for what a line does not see.
template <class S>
DEVICE void score(const AttentionParams &params, const Place<S> &place, const State<S> &state,
                  unsigned first_position, const float *key_scales, float (&products)[S::SCORE_BLOCKS][4]) {
    const unsigned first_slot = place.first_slot + place.pair * 2;
    if constexpr (S::EIGHT_BIT) {
#pragma unroll
        for (unsigned i = 0; i < S::SCORE_BLOCKS * 4; ++i) {
            products[i / 4][i % 4] *= key_scales[first_slot + i / 4 * 8 + i % 2];
        }
    }
    if (params.inner != 0.0f) {
#pragma unroll
        for (unsigned i = 0; i < S::SCORE_BLOCKS * 4; ++i) {
            products[i / 4][i % 4] = tanhf(products[i / 4][i % 4] * params.inner);
        }
    }
#pragma unroll
    for (unsigned i = 0; i < S::SCORE_BLOCKS * 4; ++i) {
        const Positions &seen = state.seen[i % 4 / 2];
        float &product = products[i / 4][i % 4];
        const unsigned position = first_position + first_slot + i / 4 * 8 + i % 2;
        product = position >= seen.first && position < seen.end ? product * params.outer : -INFINITY;
    }
}

// Gives each of the warps that share lines the scores of all of them.
template <class S>
DEVICE void exchange(const Place<S> &place, float *shared, const float (&mine)[S::SCORE_BLOCKS][4],
                     float (&scores)[4][4]) {
    float *lines = shared + (place.first_line + place.line) * S::SCORE_STRIDE + place.pair * 2;
#pragma unroll
    for (unsigned i = 0; i < S::SCORE_BLOCKS * 2; ++i) {
        const unsigned block = place.column_warp * S::SCORE_BLOCKS + i / 2;
        float *at = lines + i % 2 * 8 * S::SCORE_STRIDE + block * 8;
        store_pack<2>(at, Pack<float, 2>{{mine[i / 2][i % 2 * 2], mine[i / 2][i % 2 * 2 + 1]}});
    }
    __syncthreads();
#pragma unroll
    for (unsigned i = 0; i < 8; ++i) {
        const auto pair = load_pack<2>(lines + i % 2 * 8 * S::SCORE_STRIDE + i / 2 * 8);
        scores[i / 2][i % 2 * 2] = pair.lane[0];
        scores[i / 2][i % 2 * 2 + 1] = pair.lane[1];
    }
}

// Takes a page that is in shared memory into the state. All threads of the block take part.
template <class S>
DEVICE void absorb(const AttentionParams &params, const Place<S> &place, const Memory<S> &memory,
                   const unsigned char *stage, unsigned page, State<S> &state) {
    const float *scales = nullptr;
    uint32_t keys = shared_address(stage);
    if constexpr (S::EIGHT_BIT) {
        scales = reinterpret_cast<const float *>(stage + S::TILE_BYTES / 2);
        widen<S>(stage, memory.widened());
        keys = shared_address(memory.widened());
        __syncthreads();
    }
    float scores[4][4];
    if constexpr (S::COLUMN_WARPS == 1) {
        fill_zero(scores);
        multiply_keys<S>(place, shared_address(memory.base), keys, scores);
        score<S>(params, place, state, page * KV_PAGE_TOKENS, scales, scores);
    } else {
        float mine[S::SCORE_BLOCKS][4];
        fill_zero(mine);
        multiply_keys<S>(place, shared_address(memory.base), keys, mine);
        score<S>(params, place, state, page * KV_PAGE_TOKENS, scales, mine);
        exchange<S>(place, memory.scores(), mine, scores);
    }
    state.refer_to(scores);
    state.weigh(scores);
    if constexpr (S::EIGHT_BIT) {
        const float *value_scales = scales + KV_PAGE_TOKENS + place.pair * 2;
#pragma unroll
        for (unsigned i = 0; i < 16; ++i) {
            scores[i / 4][i % 4] *= value_scales[i / 4 * 8 + i % 2];
        }
    }
    add_values<S>(place, keys + S::TILE_BYTES / 2, scores, state.sums);
}
