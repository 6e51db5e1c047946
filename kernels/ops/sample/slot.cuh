// A sequence's slot from step to step: the token drawn is written out and counted; and how a
// slot begins.
#pragma once

#include "ops/sample/row.cuh"

// The window of the penalties moves on by one token.
DEVICE void append_history(const SampleArrays &arrays, SampleSlot &slot, unsigned slot_index,
                           unsigned token) {
    const size_t index = slot_index;
    unsigned *history = arrays.history + index * arrays.history_length;
    unsigned *counts = arrays.counts + index * arrays.vocab;
    if (slot.n_history >= slot.window) {
        --counts[history[(slot.n_history - slot.window) % arrays.history_length]];
    }
    history[slot.n_history % arrays.history_length] = token;
    ++counts[token];
    arrays.touched[index * arrays.n_words + token / 32] |= 1u << token % 32;
    ++slot.n_history;
}

// Where the next output of a slot goes in its ring.
DEVICE size_t ring_entry(const Row &row) {
    const unsigned ring_length = row.arrays.ring_length;
    return static_cast<size_t>(row.slot_index) * ring_length + row.slot->n_drawn % ring_length;
}

// What the row's next pass runs: the token drawn, at its own position. A finished sequence runs what
// it ran last, which changes nothing: it has pages for no more.
DEVICE void next_input(const SampleParams &params, unsigned row, unsigned token, unsigned position,
                       bool is_finished) {
    const bool is_step = params.positions != nullptr;
    if (params.tokens == nullptr || (is_step && is_finished)) {
        return;
    }
    params.tokens[row] = token;
    if (is_step) {
        params.positions[row] = position;
        params.spans[row].position = position;
    }
}

// Tells the host that the slot's output and list are complete.
DEVICE void publish(const SampleArrays &arrays, unsigned slot_index) {
    __threadfence_system();
    *static_cast<volatile unsigned *>(&arrays.published[slot_index]) =
        arrays.slots[slot_index].n_drawn;
}

// One thread writes the output and moves the slot on; an error finishes the sequence.
DEVICE void commit(const SampleParams &params, const Row &row, SampleOutput output) {
    SampleSlot &slot = params.arrays.slots[row.slot_index];
    params.arrays.outputs[ring_entry(row)] = output;
    ++slot.n_drawn;
    --slot.n_left;
    bool is_finished = output.status != SAMPLE_DRAWN || slot.n_left == 0;
    for (unsigned i = 0; i < slot.n_stops; ++i) {
        is_finished |= slot.stops[i] == output.token;
    }
    if (output.status == SAMPLE_DRAWN) {
        next_input(params, row.index, output.token, static_cast<unsigned>(slot.position),
                   is_finished);
        ++slot.position;
    }
    // Nobody looks back on the last token.
    if (!is_finished && (row.flags & SAMPLE_PENALISES) != 0) {
        append_history(params.arrays, slot, row.slot_index, output.token);
    }
    slot.is_live = is_finished ? 0 : 1;
    publish(params.arrays, row.slot_index);
}

// Forgets what the slot's last sequence counted; what it left of `touched` only costs a look.
DEVICE void forget(const SampleArrays &arrays, size_t index) {
    const SampleSlot &slot = arrays.slots[index];
    const unsigned *history = arrays.history + index * arrays.history_length;
    const SampleBias *biases = arrays.biases + index * arrays.n_biases;
    unsigned *touched = arrays.touched + index * arrays.n_words;
    for (unsigned i = threadIdx.x; i < min(slot.n_history, arrays.history_length);
         i += SAMPLE_THREADS) {
        arrays.counts[index * arrays.vocab + history[i]] = 0;
        touched[history[i] / 32] = 0;
    }
    for (unsigned i = threadIdx.x; i < slot.n_biases; i += SAMPLE_THREADS) {
        touched[biases[i].token / 32] = 0;
    }
    __syncthreads();
}

// Fills the slot's arrays from the words of its start.
DEVICE void fill(const SampleArrays &arrays, const SampleStart &start, const unsigned *words) {
    const size_t index = start.index;
    unsigned *touched = arrays.touched + index * arrays.n_words;
    for (unsigned i = threadIdx.x; i < start.slot.n_history; i += SAMPLE_THREADS) {
        const unsigned token = words[start.first_token + i];
        arrays.history[index * arrays.history_length + i] = token;
        atomicAdd(&arrays.counts[index * arrays.vocab + token], 1u);
        atomicOr(&touched[token / 32], 1u << token % 32);
    }
    const unsigned *biases = words + start.first_bias;
    for (unsigned i = threadIdx.x; i < start.slot.n_biases; i += SAMPLE_THREADS) {
        const unsigned token = biases[2 * i];
        arrays.biases[index * arrays.n_biases + i] = {token, __uint_as_float(biases[2 * i + 1])};
        atomicOr(&touched[token / 32], 1u << token % 32);
    }
    if ((start.slot.flags & SAMPLE_MASKS) != 0) {
        for (unsigned i = threadIdx.x; i < arrays.n_words; i += SAMPLE_THREADS) {
            arrays.masks[index * arrays.n_words + i] = words[start.first_mask + i];
        }
    }
}
