// moe_route: which experts each row goes to; formulas in mod.rs.
//
// moe_route chooses: a warp a row, lane l having experts l, l + 32, … in registers. Exponentials
// and their sum are those of device/fixed.cuh and every other step is one that rounds to nearest,
// so experts and weights have the bits of the CPU. Bound by latency: a row is some hundred logits,
// and each slot is two reductions across the warp.
//
// moe_group lists the rows of each expert: a block an expert, which reads the experts of all slots
// twice. First it counts those before and of its own, then it writes each slot of its own to its
// place. Places follow from the slots alone; nothing is counted by atomics.

#include "device/fixed.cuh"
#include "device/reduce.cuh"
#include "ops/moe_route/params.h"

// Below this exp is taken to be that of this, the least normal number.
constexpr float LEAST_EXPONENT = -87.0f;
// What keeps a sum of weights from being zero.
constexpr float EPSILON = 1e-20f;
// The key of what cannot be chosen, below that of every number.
constexpr unsigned CLOSED = 0;

// e^x for x at most 0.
DEVICE float exponential(float x) { return scaled_exp(x > LEAST_EXPONENT ? x : LEAST_EXPONENT, 0); }

DEVICE float sigmoid(float x) {
    const float e = exponential(-fabsf(x));
    return x >= 0.0f ? 1.0f / (1.0f + e) : e / (1.0f + e);
}

// Where NaN stands among numbers: last.
DEVICE float below_all(float x) { return x == x ? x : -INFINITY; }

// The softmax over the warp's values, N a lane, of which the first n (by index · 32 + lane) are
// there.
template <int N>
DEVICE void softmax(float (&x)[N], unsigned n) {
    const unsigned lane = threadIdx.x % WARP_LANES;
    unsigned greatest = CLOSED;
#pragma unroll
    for (int i = 0; i < N; ++i) {
        if (i * WARP_LANES + lane < n) {
            greatest = max(greatest, order_key(below_all(x[i])));
        }
    }
    const float top = logit_of_key(__reduce_max_sync(FULL_WARP, greatest));
    Mass mass = 0;
#pragma unroll
    for (int i = 0; i < N; ++i) {
        x[i] -= top;
        mass += i * WARP_LANES + lane < n ? weight(x[i]) : 0;
    }
    const float total = __ull2float_rn(warp_sum(mass)) * 0x1p-40f;
#pragma unroll
    for (int i = 0; i < N; ++i) {
        x[i] = exponential(x[i]) / total;
    }
}

// The greatest key of the warp and where it is, the first of equal ones. Every lane brings its own
// greatest.
struct Best {
    unsigned key, index;

    DEVICE Best of_warp(Best lane) {
        const unsigned key = __reduce_max_sync(FULL_WARP, lane.key);
        return {key, __reduce_min_sync(FULL_WARP, lane.key == key ? lane.index : ~0u)};
    }
};

// The choices of a row, for its groups' lanes: an odd number of words from a group to the next, so
// that lanes that go through their groups side by side are on different banks.
struct Choices {
    float values[MOE_ROUTE_MAX_EXPERTS + MOE_ROUTE_MAX_GROUPS];

    METHOD float *of_group(unsigned group, unsigned size) { return values + group * (size | 1u); }
};

// The score of a group whose experts' choices begin at `choice`.
DEVICE float group_score(const float *choice, unsigned size, bool top_two) {
    float best = -INFINITY, second = -INFINITY;
    for (unsigned i = 0; i < size; ++i) {
        const float c = choice[i];
        if (c > best) {
            second = best;
            best = c;
        } else if (c > second) {
            second = c;
        }
    }
    return top_two && size > 1 ? best + second : best;
}

// The groups that experts are chosen from, a bit each.
DEVICE unsigned open_groups(const MoeRouteParams &params, Choices &choices) {
    const unsigned lane = threadIdx.x % WARP_LANES;
    const unsigned size = params.n_experts / params.n_groups;
    Best group = {CLOSED, lane};
    if (lane < params.n_groups) {
        const float *choice = choices.of_group(lane, size);
        group.key = order_key(group_score(choice, size, params.top_two != 0));
    }
    unsigned open = 0;
    for (unsigned i = 0; i < params.chosen_groups; ++i) {
        const unsigned chosen = Best::of_warp(group).index;
        open |= 1u << chosen;
        group.key = lane == chosen ? CLOSED : group.key;
    }
    return open;
}

// Makes scores of the row's logits, N a lane; false where one is NaN or infinite.
template <int N>
DEVICE bool read_scores(const MoeRouteParams &params, unsigned row, float (&scores)[N]) {
    const unsigned lane = threadIdx.x % WARP_LANES, n_experts = params.n_experts;
    const float *logits = params.logits + static_cast<size_t>(row) * n_experts;
    bool sound = true;
#pragma unroll
    for (int i = 0; i < N; ++i) {
        const unsigned expert = i * WARP_LANES + lane;
        scores[i] = expert < n_experts ? logits[expert] : 0.0f;
        sound = sound && fabsf(scores[i]) < INFINITY;
    }
    if (params.scoring == MOE_SOFTMAX) {
        softmax(scores, n_experts);
    } else if (params.scoring == MOE_SIGMOID) {
#pragma unroll
        for (int i = 0; i < N; ++i) {
            scores[i] = sigmoid(scores[i]);
        }
    }
    return __all_sync(FULL_WARP, sound) != 0;
}

// The keys of the experts that can be chosen; those of others are CLOSED.
template <int N>
DEVICE void make_keys(const MoeRouteParams &params, const float (&scores)[N], Choices &choices,
                      unsigned (&keys)[N]) {
    const unsigned lane = threadIdx.x % WARP_LANES, n_experts = params.n_experts;
    const bool grouped = params.n_groups != 0;
    const unsigned size = grouped ? n_experts / params.n_groups : n_experts;
#pragma unroll
    for (int i = 0; i < N; ++i) {
        const unsigned expert = i * WARP_LANES + lane;
        keys[i] = CLOSED;
        if (expert < n_experts) {
            const float bias = params.bias == nullptr ? 0.0f : params.bias[expert];
            const float c = below_all(scores[i] + bias);
            keys[i] = order_key(c);
            if (grouped) {
                choices.of_group(expert / size, size)[expert % size] = c;
            }
        }
    }
    if (!grouped) {
        return;
    }
    __syncwarp();
    const unsigned open = open_groups(params, choices);
#pragma unroll
    for (int i = 0; i < N; ++i) {
        const unsigned expert = i * WARP_LANES + lane;
        if (expert < n_experts && (open >> (expert / size) & 1) == 0) {
            keys[i] = CLOSED;
        }
    }
}

// The best expert that is not yet chosen, and its score. It cannot be chosen again.
template <int N>
DEVICE unsigned take_best(const float (&scores)[N], unsigned (&keys)[N], float &score) {
    const unsigned lane = threadIdx.x % WARP_LANES;
    Best best = {CLOSED, lane};
#pragma unroll
    for (int i = 0; i < N; ++i) {
        if (keys[i] > best.key) {
            best = {keys[i], i * WARP_LANES + lane};
        }
    }
    const unsigned expert = Best::of_warp(best).index;
    float own = 0.0f;
#pragma unroll
    for (int i = 0; i < N; ++i) {
        if (i * WARP_LANES + lane == expert) {
            keys[i] = CLOSED;
            own = scores[i];
        }
    }
    score = __shfl_sync(FULL_WARP, own, static_cast<int>(expert % WARP_LANES));
    return expert;
}

// N experts a lane. `choices` are in the warp's own shared memory.
template <int N>
DEVICE void route_row(const MoeRouteParams &params, unsigned row, Choices &choices) {
    const unsigned lane = threadIdx.x % WARP_LANES;
    float scores[N];
    unsigned keys[N];
    const bool sound = read_scores(params, row, scores);
    make_keys(params, scores, choices, keys);

    // Lane s takes slot s.
    float weights[1] = {0.0f};
    unsigned chosen = 0;
    for (unsigned slot = 0; slot < params.top_k; ++slot) {
        float score;
        const unsigned expert = take_best(scores, keys, score);
        if (lane == slot) {
            chosen = expert;
            weights[0] = score;
        }
    }
    if (params.scoring == MOE_SOFTMAX_OF_CHOSEN) {
        softmax(weights, params.top_k);
    }
    if (params.normalise != 0) {
        float sum = 0.0f;
        for (unsigned slot = 0; slot < params.top_k; ++slot) {
            sum += __shfl_sync(FULL_WARP, weights[0], static_cast<int>(slot));
        }
        weights[0] /= sum + EPSILON;
    }
    if (lane < params.top_k) {
        const size_t slot = static_cast<size_t>(row) * params.top_k + lane;
        params.experts[slot] = chosen;
        params.weights[slot] = sound ? weights[0] * params.scale : NAN;
    }
}

// Grid: n_rows / MOE_ROUTE_ROWS blocks, rounded up. Block: a warp for each of MOE_ROUTE_ROWS rows.
template <int N>
DEVICE void route_rows(const MoeRouteParams &params) {
    __shared__ Choices choices[MOE_ROUTE_ROWS];
    const unsigned warp = threadIdx.x / WARP_LANES;
    const unsigned row = blockIdx.x * MOE_ROUTE_ROWS + warp;
    if (row < params.n_rows) {
        route_row<N>(params, row, choices[warp]);
    }
}

KERNEL(moe_route_32, MoeRouteParams, MOE_ROUTE_THREADS, 1) { route_rows<1>(params); }
KERNEL(moe_route_64, MoeRouteParams, MOE_ROUTE_THREADS, 1) { route_rows<2>(params); }
KERNEL(moe_route_128, MoeRouteParams, MOE_ROUTE_THREADS, 1) { route_rows<4>(params); }
KERNEL(moe_route_256, MoeRouteParams, MOE_ROUTE_THREADS, 1) { route_rows<8>(params); }
KERNEL(moe_route_512, MoeRouteParams, MOE_ROUTE_THREADS, 1) { route_rows<16>(params); }

// Grid: n_experts blocks. Block: MOE_GROUP_THREADS threads.
KERNEL(moe_group, MoeGroupParams, MOE_GROUP_THREADS, 1) {
    constexpr unsigned N_WARPS = MOE_GROUP_THREADS / WARP_LANES;
    __shared__ unsigned counts[N_WARPS];
    const unsigned lane = threadIdx.x % WARP_LANES, warp = threadIdx.x / WARP_LANES;
    const unsigned expert = blockIdx.x;

    unsigned n_before = 0;
    for (unsigned slot = threadIdx.x; slot < params.n_slots; slot += MOE_GROUP_THREADS) {
        n_before += params.experts[slot] < expert ? 1 : 0;
    }
    n_before = warp_sum(n_before);
    if (lane == 0) {
        counts[warp] = n_before;
    }
    __syncthreads();
    unsigned place = 0;
    for (unsigned other = 0; other < N_WARPS; ++other) {
        place += counts[other];
    }
    if (threadIdx.x == 0) {
        params.offsets[expert] = place;
        if (expert + 1 == gridDim.x) {
            params.offsets[gridDim.x] = params.n_slots;
        }
    }

    // `place` is that of the next slot of this expert.
    for (unsigned first = 0; first < params.n_slots; first += MOE_GROUP_THREADS) {
        const unsigned slot = first + threadIdx.x;
        const bool own = slot < params.n_slots && params.experts[slot] == expert;
        const unsigned lanes = __ballot_sync(FULL_WARP, own);
        __syncthreads();
        if (lane == 0) {
            counts[warp] = __popc(lanes);
        }
        __syncthreads();
        unsigned before = __popc(lanes & ((1u << lane) - 1)), total = 0;
        for (unsigned other = 0; other < N_WARPS; ++other) {
            before += other < warp ? counts[other] : 0;
            total += counts[other];
        }
        if (own) {
            params.rows[place + before] = slot / params.top_k;
            params.owners[place + before] = expert;
            params.places[slot] = place + before;
        }
        place += total;
    }
}
