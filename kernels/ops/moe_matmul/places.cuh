// The way from the parameters of a matmul to those of a block's own expert and places.
//
// The grid of the kernels for few places has in y a block for every place, of which those work
// that are the first of an expert or every eighth behind it: they take up to eight places of their
// expert, whose rows are then the tokens of an ordinary matmul. The others end at once. So the grid
// depends on the number of rows alone, and an expert without rows costs nothing.
#pragma once

#include "device/kernel.cuh"
#include "ops/moe_matmul/params.h"

// Places of one expert: n_tokens of them, 0 for a block without work.
struct ExpertPlaces {
    unsigned expert, first, n_tokens;

    DEVICE ExpertPlaces of(const MoePlaces &places, unsigned place) {
        const unsigned expert = places.owners[place];
        const unsigned in_expert = place - places.offsets[expert];
        const unsigned left = places.offsets[expert + 1] - place;
        const bool leads = in_expert % MATMUL_GROUP_TOKENS == 0;
        return {expert, place, leads ? min(left, unsigned{MATMUL_GROUP_TOKENS}) : 0};
    }

    // Brings an input and an output from the first expert and place to these.
    METHOD void move(const MoePlaces &places, MatmulInput &input, MatmulOutput &output) const {
        move(places, output);
        if (input.rows != nullptr) {
            input.rows += first;
        } else {
            input.x += static_cast<size_t>(first) * input.cols;
        }
        input.n_tokens = n_tokens;
    }

    METHOD void move(const MoePlaces &places, MatmulOutput &output) const {
        if (output.bias != nullptr) {
            output.bias += static_cast<size_t>(expert) * places.bias_stride;
        }
        output.out += static_cast<size_t>(first) * output.width;
    }
};
