// A row of logits as the sampling kernels see it: its slot, and its tokens with what penalties,
// biases and the mask make of them (adjust.rs).
#pragma once

#include "device/fixed.cuh"
#include "device/memory.cuh"
#include "device/scan.cuh"
#include "ops/sample/params.h"

// Which tokens a row's parameters leave.
enum class Goal {
    GREEDY, // the first of the most probable
    ALL,    // those that min-p keeps
    COUNT,  // the first top_k, of those the nucleus
    MASS    // the nucleus
};

struct Row {
    const SampleArrays &arrays;
    const SampleSlot *slot;
    SampleWork *work;
    const float *logits;
    unsigned index;      // among the rows
    unsigned slot_index; // among the slots
    unsigned flags;
    Goal goal;
};

// A row that has something to draw.
DEVICE bool is_live(const SampleParams &params) {
    const unsigned slot = params.row_slots[blockIdx.y];
    return slot != SAMPLE_IDLE && params.arrays.slots[slot].is_live != 0;
}

DEVICE Row open_row(const SampleParams &params) {
    const unsigned index = blockIdx.y, slot_index = params.row_slots[index];
    const SampleSlot *slot = params.arrays.slots + slot_index;
    const float *logits = params.logits + static_cast<size_t>(index) * params.arrays.vocab;
    Goal goal = Goal::ALL;
    if ((slot->flags & SAMPLE_GREEDY) != 0) {
        goal = Goal::GREEDY;
    } else if (slot->top_k > 0) {
        goal = Goal::COUNT;
    } else if (slot->top_p < 1.0f) {
        goal = Goal::MASS;
    }
    return {params.arrays, slot,       params.arrays.work + index, logits, index,
            slot_index,    slot->flags, goal};
}

// Adds the biases of `token` in their order; the list is sorted by token.
DEVICE float add_biases(const SampleArrays &arrays, unsigned slot_index, unsigned token,
                        float logit) {
    const SampleBias *biases = arrays.biases + static_cast<size_t>(slot_index) * arrays.n_biases;
    const unsigned n_biases = arrays.slots[slot_index].n_biases;
    unsigned low = 0, high = n_biases;
    while (low < high) {
        const unsigned middle = (low + high) / 2;
        if (biases[middle].token < token) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    for (; low < n_biases && biases[low].token == token; ++low) {
        logit += biases[low].bias;
    }
    return logit;
}

// The logit of a token whose bit in `touched` is set, before the mask. Called, not inlined: few
// tokens come here, from many places.
DEVICE_CALLED float touch(const SampleArrays &arrays, unsigned slot_index, unsigned token,
                          float logit) {
    const SampleSlot &slot = arrays.slots[slot_index];
    if ((slot.flags & SAMPLE_PENALISES) != 0) {
        const unsigned count = arrays.counts[static_cast<size_t>(slot_index) * arrays.vocab + token];
        if (count > 0) {
            logit = logit > 0.0f ? logit / slot.repeat_penalty : logit * slot.repeat_penalty;
            logit -= static_cast<float>(count) * slot.frequency_penalty + slot.presence_penalty;
        }
    }
    return (slot.flags & SAMPLE_BIASES) != 0 ? add_biases(arrays, slot_index, token, logit) : logit;
}

// The word that holds the bit of `token` in one of the bit arrays, or `otherwise` where the row
// does not use it.
DEVICE unsigned word_of(const Row &row, const unsigned *bits, unsigned flags, unsigned token,
                        unsigned otherwise) {
    if ((row.flags & flags) == 0) {
        return otherwise;
    }
    return bits[static_cast<size_t>(row.slot_index) * row.arrays.n_words + token / 32];
}

// The logit after penalties, biases and mask; the words hold the token's bit.
DEVICE float adjusted(const Row &row, unsigned token, float logit, unsigned touched,
                      unsigned allowed) {
    if ((touched >> token % 32 & 1) != 0) {
        logit = touch(row.arrays, row.slot_index, token, logit);
    }
    return (allowed >> token % 32 & 1) != 0 ? logit : -INFINITY;
}

// Calls visit(token, raw, adjusted) for the tokens of a tile, LANES of them an access. Several
// accesses are under way at a time, for a row's few blocks have the memory to themselves.
template <int LANES, class Visit>
DEVICE void visit_packs(const Row &row, unsigned tile, Visit visit) {
    constexpr unsigned BATCH = 4, STRIDE = SAMPLE_THREADS * LANES;
    const unsigned begin = tile * SAMPLE_TILE + threadIdx.x * LANES;
    const unsigned end = min((tile + 1) * SAMPLE_TILE, row.arrays.vocab);
    for (unsigned first = begin; first < end; first += BATCH * STRIDE) {
        Pack<float, LANES> packs[BATCH];
        unsigned touched[BATCH], allowed[BATCH];
#pragma unroll
        for (unsigned i = 0; i < BATCH; ++i) {
            const unsigned token = first + i * STRIDE;
            if (token < end) {
                packs[i] = load_pack<LANES>(row.logits + token);
                touched[i] = word_of(row, row.arrays.touched, SAMPLE_PENALISES | SAMPLE_BIASES,
                                     token, 0);
                allowed[i] = word_of(row, row.arrays.masks, SAMPLE_MASKS, token, ~0u);
            }
        }
#pragma unroll
        for (unsigned i = 0; i < BATCH; ++i) {
            const unsigned token = first + i * STRIDE;
            if (token < end) {
#pragma unroll
                for (unsigned k = 0; k < LANES; ++k) {
                    const float raw = packs[i].lane[k];
                    visit(token + k, raw, adjusted(row, token + k, raw, touched[i], allowed[i]));
                }
            }
        }
    }
}

// In 16-byte accesses where each row begins on such a boundary.
template <class Visit>
DEVICE void visit_tile(const Row &row, unsigned tile, Visit visit) {
    if (row.arrays.vocab % 4 == 0) {
        visit_packs<4>(row, tile, visit);
    } else {
        visit_packs<1>(row, tile, visit);
    }
}

// The weight of an adjusted logit at the row's temperature.
DEVICE Mass tempered(const Row &row, float logit) {
    return weight((logit - row.work->max) * row.slot->scale);
}

// The same, or 0 where min-p drops the token.
DEVICE Mass drawable(const Row &row, Mass weight) {
    return weight >= row.slot->least ? weight : 0;
}
