// rope_append: an RMS norm of query and key heads, their rotation, and the store of keys and
// values in the paged cache; formula in mod.rs.
//
// A block takes ROPE_APPEND_HEADS heads of a row, a warp each, and begins with the cosines and
// sines of the row's position. A lane has 4 neighbouring elements of a head, twice where heads
// are longer than 128; the element it turns with comes through shared memory. Bound by memory:
// a row moves 4 bytes an element in, and out 4 for queries, 2 for keys and values of bf16, 1 for
// those of 8 bits.

#include "device/kv.cuh"
#include "device/memory.cuh"
#include "device/reduce.cuh"
#include "ops/rope_append/params.h"

// Elements of a lane that lie side by side, and the elements of a warp.
constexpr unsigned LANE_ELEMENTS = 4;
constexpr unsigned WARP_ELEMENTS = LANE_ELEMENTS * WARP_LANES;
// How often a warp goes over the longest head.
constexpr unsigned PARTS = KV_MAX_WIDTH / WARP_ELEMENTS;

struct Turn {
    float cos, sin;
};

// A lane's part of a head: elements part · WARP_ELEMENTS + lane · LANE_ELEMENTS and on, zeros
// beyond the head's end.
typedef Pack<float, LANE_ELEMENTS> Elements[PARTS];

DEVICE unsigned first_element(unsigned part) {
    return part * WARP_ELEMENTS + threadIdx.x % WARP_LANES * LANE_ELEMENTS;
}

// Cosine and sine of an angle of any size, within 1e-7: the angle is taken modulo π/2 in f64, whose
// 53 bits leave 24 for the rest while a quarter turn's count has fewer than 29. CUDA's sincosf would
// keep an array in memory for that. Polynomials for |x| ≤ π/4 by Moshier (Cephes, 1992).
DEVICE Turn turn_by(float angle) {
    constexpr double QUARTERS = 0.63661977236758134308; // 2/π
    constexpr double QUARTER = 1.57079632679489661923;
    const double count = rint(angle * QUARTERS);
    const auto x = static_cast<float>(fma(-count, QUARTER, static_cast<double>(angle)));
    const float z = x * x;
    float sine = fmaf(fmaf(-1.9515295891e-4f, z, 8.3321608736e-3f), z, -1.6666654611e-1f);
    sine = fmaf(sine * z, x, x);
    float cosine = fmaf(fmaf(2.443315711809948e-5f, z, -1.388731625493765e-3f), z, 4.166664568298827e-2f);
    cosine = fmaf(cosine * z, z, fmaf(-0.5f, z, 1.0f));
    switch (static_cast<long long>(count) & 3) {
    case 0:
        return {cosine, sine};
    case 1:
        return {-sine, cosine};
    case 2:
        return {-cosine, -sine};
    default:
        return {sine, -cosine};
    }
}

// Positions times frequencies in f32, as the reference has them.
DEVICE void find_turns(const RopeAppendParams &params, unsigned row, Turn *turns) {
    const auto position = static_cast<float>(params.batch.positions[row]);
    for (unsigned j = threadIdx.x; j < params.n_pairs; j += blockDim.x) {
        const Turn turn = turn_by(position * params.frequencies[j]);
        turns[j] = {turn.cos * params.attention_factor, turn.sin * params.attention_factor};
    }
}

DEVICE void normalise(const RopeAppendParams &params, const float *weight, Elements &x) {
    const unsigned head_dim = params.kv.head_dim;
    float square_sum = 0.0f;
#pragma unroll
    for (unsigned part = 0; part < PARTS; ++part) {
#pragma unroll
        for (unsigned k = 0; k < LANE_ELEMENTS; ++k) {
            square_sum = fmaf(x[part].lane[k], x[part].lane[k], square_sum);
        }
    }
    const float mean_square = warp_sum(square_sum) / static_cast<float>(head_dim);
    const float scale = 1.0f / sqrtf(mean_square + params.epsilon);
#pragma unroll
    for (unsigned part = 0; part < PARTS; ++part) {
        if (first_element(part) < head_dim) {
            const auto weights = load_pack<LANE_ELEMENTS>(weight + first_element(part));
#pragma unroll
            for (unsigned k = 0; k < LANE_ELEMENTS; ++k) {
                x[part].lane[k] = x[part].lane[k] * scale * weights.lane[k];
            }
        }
    }
}

// One element turned: (a, b) ← (a·cos − b·sin, b·cos + a·sin).
DEVICE float turned(const RopeAppendParams &params, const Turn *turns, const float *head, unsigned i) {
    const unsigned n_pairs = params.n_pairs;
    if (i >= 2 * n_pairs) {
        return head[i];
    }
    const bool first = params.adjacent ? i % 2 == 0 : i < n_pairs;
    const unsigned pair = params.adjacent ? i / 2 : first ? i : i - n_pairs;
    const unsigned step = params.adjacent ? 1 : n_pairs;
    const float other = head[first ? i + step : i - step];
    const float along = head[i] * turns[pair].cos;
    const float across = other * turns[pair].sin;
    return first ? along - across : along + across;
}

DEVICE void rotate(const RopeAppendParams &params, const Turn *turns, float *head, Elements &x) {
#pragma unroll
    for (unsigned part = 0; part < PARTS; ++part) {
        store_pack<LANE_ELEMENTS>(head + first_element(part), x[part]);
    }
    __syncwarp();
#pragma unroll
    for (unsigned part = 0; part < PARTS; ++part) {
        if (first_element(part) < params.kv.head_dim) {
#pragma unroll
            for (unsigned k = 0; k < LANE_ELEMENTS; ++k) {
                x[part].lane[k] = turned(params, turns, head, first_element(part) + k);
            }
        }
    }
}

// The nearest bf16, within the finite ones: no infinity is stored where none was computed.
DEVICE uint32_t nearest_bf16(float x) {
    constexpr float LARGEST = 3.3895313892515355e38f;
    const float bounded = fabsf(x) > LARGEST ? copysignf(LARGEST, x) : x;
    return __bfloat16_as_ushort(__float2bfloat16_rn(bounded));
}

// Writes a row of bf16.
DEVICE void store_bf16(const KvLayer &kv, unsigned char *rows, unsigned slot, const Elements &x) {
    const unsigned n_chunks = kv.width / KV_CHUNK;
#pragma unroll
    for (unsigned part = 0; part < PARTS; ++part) {
        const unsigned element = first_element(part);
        if (element < kv.width) {
            Pack<uint32_t, 2> pairs;
#pragma unroll
            for (unsigned k = 0; k < 2; ++k) {
                pairs.lane[k] =
                    nearest_bf16(x[part].lane[2 * k]) | nearest_bf16(x[part].lane[2 * k + 1]) << 16;
            }
            const unsigned chunk = kv_chunk_offset(slot, element / KV_CHUNK, n_chunks);
            unsigned char *to = rows + chunk + element % KV_CHUNK * 2;
            store_pack<2>(reinterpret_cast<uint32_t *>(to), pairs);
        }
    }
}

// Writes a row of integers of 8 bits, x ≈ integer · scale, and its scale.
DEVICE void store_eight_bit(const KvLayer &kv, unsigned char *rows, float *scales, unsigned slot,
                            const Elements &x) {
    float largest = 0.0f;
#pragma unroll
    for (unsigned part = 0; part < PARTS; ++part) {
#pragma unroll
        for (unsigned k = 0; k < LANE_ELEMENTS; ++k) {
            largest = fmaxf(largest, fabsf(x[part].lane[k]));
        }
    }
#pragma unroll
    for (unsigned offset = WARP_LANES / 2; offset > 0; offset /= 2) {
        largest = fmaxf(largest, __shfl_xor_sync(FULL_WARP, largest, offset));
    }
    const float scale = largest / 127.0f;
#pragma unroll
    for (unsigned part = 0; part < PARTS; ++part) {
        const unsigned element = first_element(part);
        if (element < kv.width) {
            uint32_t word = 0;
#pragma unroll
            for (unsigned k = 0; k < LANE_ELEMENTS; ++k) {
                const float integer = scale > 0.0f ? x[part].lane[k] / scale : 0.0f;
                const int rounded = __float2int_rn(fminf(fmaxf(integer, -127.0f), 127.0f));
                word |= (static_cast<uint32_t>(rounded) & 0xff) << 8 * k;
            }
            *reinterpret_cast<uint32_t *>(rows + slot * kv.width + element) = word;
        }
    }
    if (threadIdx.x % WARP_LANES == 0) {
        scales[slot] = scale;
    }
}

// Writes a key (`which` 0) or a value (1) to its page and slot.
DEVICE void append(const RopeAppendParams &params, unsigned row, unsigned head, unsigned which,
                   const Elements &x) {
    const KvLayer &kv = params.kv;
    const BatchArrays &batch = params.batch;
    const unsigned position = batch.positions[row];
    const unsigned *table = batch.block_tables + batch.spans[batch.row_spans[row]].first_entry;
    const unsigned slot = position % KV_PAGE_TOKENS;
    unsigned char *stored = kv_head(kv, table[position / KV_PAGE_TOKENS], head);
    const unsigned n_elements = KV_PAGE_TOKENS * kv.width;
    if (kv.eight_bit) {
        auto *scales = reinterpret_cast<float *>(stored + 2 * n_elements) + which * KV_PAGE_TOKENS;
        store_eight_bit(kv, stored + which * n_elements, scales, slot, x);
    } else {
        store_bf16(kv, stored + which * n_elements * 2, slot, x);
    }
}

// Grid: (n_rows, heads of queries, keys and values / ROPE_APPEND_HEADS).
KERNEL(rope_append, RopeAppendParams, ROPE_APPEND_THREADS, 4) {
    __shared__ Turn turns[KV_MAX_WIDTH / 2];
    __shared__ __align__(16) float turning[ROPE_APPEND_HEADS][KV_MAX_WIDTH];
    const unsigned warp = threadIdx.x / WARP_LANES;
    const unsigned row = blockIdx.x;
    const unsigned head = blockIdx.y * ROPE_APPEND_HEADS + warp;
    const unsigned n_heads = params.n_heads, n_kv_heads = params.n_kv_heads;
    const unsigned head_dim = params.kv.head_dim;
    const unsigned n_row_heads = n_heads + 2 * n_kv_heads;

    find_turns(params, row, turns);
    __syncthreads();
    if (head >= n_row_heads) {
        return;
    }
    float *source = params.qkv + (static_cast<size_t>(row) * n_row_heads + head) * head_dim;
    Elements x = {};
#pragma unroll
    for (unsigned part = 0; part < PARTS; ++part) {
        if (first_element(part) < head_dim) {
            x[part] = load_pack<LANE_ELEMENTS>(source + first_element(part));
        }
    }
    const bool is_query = head < n_heads;
    const bool is_value = head >= n_heads + n_kv_heads;
    const float *weight = is_query ? params.q_norm : params.k_norm;
    if (!is_value && weight != nullptr) {
        normalise(params, weight, x);
    }
    if (!is_value && params.n_pairs > 0) {
        rotate(params, turns, turning[warp], x);
    }
    if (!is_query) {
        const unsigned which = is_value ? 1 : 0;
        append(params, row, head - n_heads - which * n_kv_heads, which, x);
        return;
    }
#pragma unroll
    for (unsigned part = 0; part < PARTS; ++part) {
        if (first_element(part) < head_dim) {
            store_pack<LANE_ELEMENTS>(source + first_element(part), x[part]);
        }
    }
}
