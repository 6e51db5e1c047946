// rope_append: what a warp does with a head of a row; formula in mod.rs. attention_decode does the
// same, with these functions and so to the same bits, with what it is handed unprepared.
//
// A lane has 4 neighbouring elements of a head, twice where heads are longer than 128; the element
// it turns with comes through shared memory where another lane has it.
#pragma once

#include "device/kv.cuh"
#include "device/memory.cuh"
#include "device/reduce.cuh"
#include "ops/rope_append/params.h"

// Elements of a lane that lie side by side, and the elements of a warp.
constexpr unsigned LANE_ELEMENTS = 4;
constexpr unsigned WARP_ELEMENTS = LANE_ELEMENTS * WARP_LANES;

// How often a warp goes over heads of `width` elements.
DEVICE constexpr unsigned parts_of(unsigned width) { return (width + WARP_ELEMENTS - 1) / WARP_ELEMENTS; }

// A lane's part of a head: elements part · WARP_ELEMENTS + lane · LANE_ELEMENTS and on, zeros
// beyond the head's end.
template <unsigned PARTS>
using Elements = Pack<float, LANE_ELEMENTS>[PARTS];

DEVICE unsigned first_element(unsigned part) {
    return part * WARP_ELEMENTS + threadIdx.x % WARP_LANES * LANE_ELEMENTS;
}

// The cosines and sines of a position's angles, times the attention factor: [n_pairs] each, in
// shared memory, aligned to 16 bytes.
struct Turns {
    float *cosines, *sines;
};

struct CosSin {
    float cos, sin;
};

// Cosine and sine of an angle of any size, within 1e-7: the angle is taken modulo π/2 in f64, whose
// 53 bits leave 24 for the rest while a quarter turn's count has fewer than 29. CUDA's sincosf would
// keep an array in memory for that. Polynomials for |x| ≤ π/4 by Moshier (Cephes, 1992).
DEVICE CosSin turn_by(float angle) {
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

// Positions times frequencies in f32, as the reference has them. All `n_threads` of the block take
// part; what they write is there after the next barrier.
DEVICE void find_turns(const RopeNorm &rope, unsigned position, const Turns &turns, unsigned n_threads) {
    const auto at = static_cast<float>(position);
    for (unsigned j = threadIdx.x; j < rope.n_pairs; j += n_threads) {
        const CosSin turn = turn_by(at * rope.frequencies[j]);
        turns.cosines[j] = turn.cos * rope.attention_factor;
        turns.sines[j] = turn.sin * rope.attention_factor;
    }
}

template <unsigned PARTS>
DEVICE void load_head(const float *source, unsigned head_dim, Elements<PARTS> &x) {
#pragma unroll
    for (unsigned part = 0; part < PARTS; ++part) {
        x[part] = {};
        if (first_element(part) < head_dim) {
            x[part] = load_pack<LANE_ELEMENTS>(source + first_element(part));
        }
    }
}

template <unsigned PARTS>
DEVICE void normalise(const RopeNorm &rope, unsigned head_dim, const float *weight, Elements<PARTS> &x) {
    float square_sum = 0.0f;
#pragma unroll
    for (unsigned part = 0; part < PARTS; ++part) {
#pragma unroll
        for (unsigned k = 0; k < LANE_ELEMENTS; ++k) {
            square_sum = fmaf(x[part].lane[k], x[part].lane[k], square_sum);
        }
    }
    const float mean_square = warp_sum(square_sum) / static_cast<float>(head_dim);
    const float scale = 1.0f / sqrtf(mean_square + rope.epsilon);
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

// What a lane's four elements turn with.
struct Partners {
    Pack<float, LANE_ELEMENTS> others, cosines, sines;
};

// The partners of `own`, elements `first` and on of a head; those of other lanes are at `head`. What
// it says of elements that do not turn has no meaning.
DEVICE Partners partners(const RopeNorm &rope, const Turns &turns, const float *head, unsigned first,
                         const Pack<float, LANE_ELEMENTS> &own) {
    const unsigned n_pairs = rope.n_pairs;
    if (rope.adjacent) {
        const auto cosines = load_pack<2>(turns.cosines + first / 2);
        const auto sines = load_pack<2>(turns.sines + first / 2);
        return {{{own.lane[1], own.lane[0], own.lane[3], own.lane[2]}},
                {{cosines.lane[0], cosines.lane[0], cosines.lane[1], cosines.lane[1]}},
                {{sines.lane[0], sines.lane[0], sines.lane[1], sines.lane[1]}}};
    }
    if (n_pairs % LANE_ELEMENTS == 0) {
        const bool is_first = first < n_pairs;
        const unsigned pair = is_first ? first : first - n_pairs;
        return {load_pack<LANE_ELEMENTS>(head + (is_first ? first + n_pairs : pair)),
                load_pack<LANE_ELEMENTS>(turns.cosines + pair), load_pack<LANE_ELEMENTS>(turns.sines + pair)};
    }
    Partners found;
#pragma unroll
    for (unsigned k = 0; k < LANE_ELEMENTS; ++k) {
        const unsigned i = min(first + k, 2 * n_pairs - 1);
        const unsigned pair = i < n_pairs ? i : i - n_pairs;
        found.others.lane[k] = head[i < n_pairs ? i + n_pairs : pair];
        found.cosines.lane[k] = turns.cosines[pair];
        found.sines.lane[k] = turns.sines[pair];
    }
    return found;
}

// Turns a head: (a, b) ← (a·cos − b·sin, b·cos + a·sin). At `head` is room in shared memory for all
// of its elements, the warp's own, aligned to 16 bytes.
template <unsigned PARTS>
DEVICE void rotate(const RopeNorm &rope, unsigned head_dim, const Turns &turns, float *head, Elements<PARTS> &x) {
    // The lanes are done with the head before.
    __syncwarp();
#pragma unroll
    for (unsigned part = 0; part < PARTS; ++part) {
        if (first_element(part) < head_dim) {
            store_pack<LANE_ELEMENTS>(head + first_element(part), x[part]);
        }
    }
    __syncwarp();
#pragma unroll
    for (unsigned part = 0; part < PARTS; ++part) {
        const unsigned first = first_element(part);
        if (first >= 2 * rope.n_pairs) {
            continue;
        }
        const Partners with = partners(rope, turns, head, first, x[part]);
#pragma unroll
        for (unsigned k = 0; k < LANE_ELEMENTS; ++k) {
            const unsigned i = first + k;
            if (i < 2 * rope.n_pairs) {
                const bool is_first = rope.adjacent ? i % 2 == 0 : i < rope.n_pairs;
                const float along = x[part].lane[k] * with.cosines.lane[k];
                const float across = with.others.lane[k] * with.sines.lane[k];
                x[part].lane[k] = is_first ? along - across : along + across;
            }
        }
    }
}

// Makes a query or a key of what the product left: normalised where there is a weight, turned.
template <unsigned PARTS>
DEVICE void prepare_head(const RopeNorm &rope, unsigned head_dim, const float *weight, const Turns &turns,
                         float *head, Elements<PARTS> &x) {
    if (weight != nullptr) {
        normalise(rope, head_dim, weight, x);
    }
    if (rope.n_pairs > 0) {
        rotate(rope, head_dim, turns, head, x);
    }
}

// The nearest bf16, within the finite ones: no infinity is stored where none was computed.
DEVICE uint32_t nearest_bf16(float x) {
    constexpr float LARGEST = 3.3895313892515355e38f;
    const float bounded = fabsf(x) > LARGEST ? copysignf(LARGEST, x) : x;
    return __bfloat16_as_ushort(__float2bfloat16_rn(bounded));
}

// A key or a value as pages of bf16 hold it: a lane's part.
template <unsigned PARTS>
struct Bf16Row {
    Pack<uint32_t, 2> pairs[PARTS];

    METHOD void round(const Elements<PARTS> &x) {
#pragma unroll
        for (unsigned part = 0; part < PARTS; ++part) {
            const float(&of)[LANE_ELEMENTS] = x[part].lane;
            pairs[part] = {{nearest_bf16(of[0]) | nearest_bf16(of[1]) << 16,
                            nearest_bf16(of[2]) | nearest_bf16(of[3]) << 16}};
        }
    }

    // Writes the row to its slot of a head of `width` elements; keys are `which` 0, values 1.
    METHOD void store(unsigned char *stored, unsigned width, unsigned which, unsigned slot) const {
        unsigned char *rows = stored + which * KV_PAGE_TOKENS * width * 2;
#pragma unroll
        for (unsigned part = 0; part < PARTS; ++part) {
            const unsigned element = first_element(part);
            if (element < width) {
                const unsigned chunk = kv_chunk_offset(slot, element / KV_CHUNK, width / KV_CHUNK);
                unsigned char *to = rows + chunk + element % KV_CHUNK * 2;
                store_pack<2>(reinterpret_cast<uint32_t *>(to), pairs[part]);
            }
        }
    }
};

// The same of pages of 8 bits: integers, x ≈ integer · scale.
template <unsigned PARTS>
struct EightBitRow {
    uint32_t words[PARTS];
    float scale;

    METHOD void round(const Elements<PARTS> &x) {
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
        scale = largest / 127.0f;
#pragma unroll
        for (unsigned part = 0; part < PARTS; ++part) {
            words[part] = 0;
#pragma unroll
            for (unsigned k = 0; k < LANE_ELEMENTS; ++k) {
                const float integer = scale > 0.0f ? x[part].lane[k] / scale : 0.0f;
                const int rounded = __float2int_rn(fminf(fmaxf(integer, -127.0f), 127.0f));
                words[part] |= (static_cast<uint32_t>(rounded) & 0xff) << 8 * k;
            }
        }
    }

    METHOD void store(unsigned char *stored, unsigned width, unsigned which, unsigned slot) const {
        const unsigned n_elements = KV_PAGE_TOKENS * width;
        unsigned char *row = stored + which * n_elements + slot * width;
#pragma unroll
        for (unsigned part = 0; part < PARTS; ++part) {
            if (first_element(part) < width) {
                *reinterpret_cast<uint32_t *>(row + first_element(part)) = words[part];
            }
        }
        if (threadIdx.x % WARP_LANES == 0) {
            reinterpret_cast<float *>(stored + 2 * n_elements)[which * KV_PAGE_TOKENS + slot] = scale;
        }
    }
};
