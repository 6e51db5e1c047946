// sample: the next token of each row of logits; definition in mod.rs, with the bits of the CPU.
//
// Four passes over the vocabulary, a kernel each, and no sort:
//
//   sample_max    greatest raw and adjusted logit, broken logits      top-k: key bits 21 to 31
//   sample_mass   Σ weight of the raw logits, and of the adjusted     top-k: 10–20   top-p: 21–31
//   sample_narrow                                                     top-k:  0–9    top-p: 10–20
//   sample_draw   what each tile keeps; the draw                                     top-p:  0–9
//
// A prefix of the order of probability ends at a key, found from its high bits down (search.cuh):
// top-k counts tokens from the first pass on, top-p needs the maximum and begins with the second.
// Three passes have all 32 bits, whatever the logits: ties, a flat row, k = vocab − 1. Then the
// tiles know their kept mass and their tokens at the very key, of which the first by id are kept,
// and the last block draws (draw.cuh). The list of most probable tokens is a second top-k, on
// the raw logits, in the same passes. With both top-k and top-p the last pass lists the k
// candidates for the last block, as the nucleus is a share of their mass.
//
// Grid: tiles of 8192 tokens × rows. All that changes from step to step is read from device
// memory, so a captured graph may replay it. Bound by memory: 4 · vocab bytes a pass, from L2
// after the first.

#include "ops/sample/draw.cuh"
#include "ops/sample/slot.cuh"

DEVICE SampleShared &shared_memory() { return *dynamic_shared<SampleShared>(); }

template <class T>
DEVICE T warp_max(T value) {
    for (unsigned offset = WARP_LANES / 2; offset > 0; offset /= 2) {
        value = max(value, __shfl_xor_sync(FULL_WARP, value, offset));
    }
    return value;
}

// Tells the row's status, and starts its searches, once all maxima are known.
DEVICE void start_searches(const Row &row) {
    constexpr float LEAST = -INFINITY;
    SampleWork &work = *row.work;
    const unsigned max_key = static_cast<unsigned>(work.argmax >> 32);
    if (work.raw_broken > 0) {
        work.status = SAMPLE_RAW_NOT_FINITE;
    } else if (work.raw_max_key == order_key(LEAST)) {
        work.status = SAMPLE_RAW_FORBIDDEN;
    } else if (work.broken > 0) {
        work.status = SAMPLE_NOT_FINITE;
    } else if (max_key == order_key(LEAST)) {
        work.status = SAMPLE_FORBIDDEN;
    }
    work.raw_max = logit_of_key(work.raw_max_key);
    work.max = logit_of_key(max_key);
    work.cut.missing = row.slot->top_k;
    work.top.missing = row.slot->n_top;
}

// Grid: tiles × rows, as of the next three. Block: SAMPLE_THREADS.
KERNEL(sample_max, SampleParams, SAMPLE_THREADS, 2) {
    if (!is_live(params)) {
        return;
    }
    const Row row = open_row(params);
    SampleShared &shared = shared_memory();
    clear_histograms(shared);
    Mass argmax = 0;
    unsigned raw_max_key = 0, raw_broken = 0, broken = 0;
    visit_tile(row, blockIdx.x, [&](unsigned token, float raw, float logit) {
        // The comparisons are false for NaN.
        raw_max_key = raw < INFINITY ? max(raw_max_key, order_key(raw)) : raw_max_key;
        raw_broken = raw < INFINITY ? raw_broken : max(raw_broken, ~token);
        const Mass candidate = static_cast<Mass>(order_key(logit)) << 32 | ~token;
        argmax = logit < INFINITY ? max(argmax, candidate) : argmax;
        broken = logit < INFINITY ? broken : max(broken, ~token);
        add_tokens<0>(row, shared, raw, logit);
    });
    argmax = warp_max(argmax);
    raw_max_key = warp_max(raw_max_key);
    raw_broken = warp_max(raw_broken);
    broken = warp_max(broken);
    if (threadIdx.x % WARP_LANES == 0) {
        atomicMax(&row.work->argmax, argmax);
        atomicMax(&row.work->raw_max_key, raw_max_key);
        if (raw_broken > 0 || broken > 0) {
            atomicMax(&row.work->raw_broken, raw_broken);
            atomicMax(&row.work->broken, broken);
        }
    }
    flush(row, shared);
    if (is_last_block(row, shared)) {
        if (threadIdx.x == 0) {
            start_searches(row);
        }
        __syncthreads();
        find_tokens<0>(row, shared);
    }
}

KERNEL(sample_mass, SampleParams, SAMPLE_THREADS, 2) {
    if (!is_live(params)) {
        return;
    }
    const Row row = open_row(params);
    if (row.work->status != SAMPLE_DRAWN) {
        return;
    }
    SampleShared &shared = shared_memory();
    clear_histograms(shared);
    const float raw_max = row.work->raw_max, max = row.work->max;
    const float scale = row.slot->scale, negligible = row.slot->negligible;
    Mass raw_mass = 0, mass = 0;
    visit_tile(row, blockIdx.x, [&](unsigned, float raw, float logit) {
        raw_mass += weight(raw - raw_max);
        add_tokens<1>(row, shared, raw, logit);
        if (row.goal == Goal::MASS) {
            const float x = (logit - max) * scale;
            const Mass own = weight(x);
            mass += own;
            // What is lighter does not add up to what the nucleus leaves out.
            add_mass<0>(shared, order_key(logit), x >= negligible ? own : 0, row.work->cut);
        } else if (row.goal == Goal::ALL) {
            mass += drawable(row, tempered(row, logit));
        }
    });
    raw_mass = block_prefix(raw_mass, shared.scratch).total;
    __syncthreads();
    mass = block_prefix(mass, shared.scratch).total;
    if (threadIdx.x == 0) {
        atomicAdd(&row.work->raw_mass, raw_mass);
        atomicAdd(&row.work->mass, mass);
        tiles_of(row).mass[blockIdx.x] = mass;
    }
    flush(row, shared);
    if (is_last_block(row, shared)) {
        find_tokens<1>(row, shared);
        if (row.goal == Goal::MASS) {
            if (threadIdx.x == 0) {
                row.work->cut.missing = share_of(row.slot->top_p, row.work->mass);
            }
            __syncthreads();
            find_in<0>(row_masses(row), row.work->cut, shared);
        }
    }
}

// Whether a prefix of the row ends somewhere.
DEVICE bool has_end(const Row &row) {
    return row.goal == Goal::COUNT || row.goal == Goal::MASS || row.slot->n_top > 0;
}

KERNEL(sample_narrow, SampleParams, SAMPLE_THREADS, 2) {
    if (!is_live(params)) {
        return;
    }
    const Row row = open_row(params);
    if (row.work->status != SAMPLE_DRAWN || !has_end(row)) {
        return;
    }
    SampleShared &shared = shared_memory();
    clear_histograms(shared);
    const float max = row.work->max, scale = row.slot->scale;
    const float negligible = row.slot->negligible;
    visit_tile(row, blockIdx.x, [&](unsigned, float raw, float logit) {
        add_tokens<2>(row, shared, raw, logit);
        const float x = (logit - max) * scale;
        if (row.goal == Goal::MASS && x >= negligible) {
            add_mass<1>(shared, order_key(logit), weight(x), row.work->cut);
        }
    });
    flush(row, shared);
    if (is_last_block(row, shared)) {
        find_tokens<2>(row, shared);
        if (row.goal == Goal::MASS) {
            find_in<1>(row_masses(row), row.work->cut, shared);
        }
    }
}

// What a tile keeps for certain, what stands at the end, and what belongs to the list.
DEVICE void split_tile(const Row &row, SampleShared &shared) {
    const SampleSearch cut = row.work->cut, top = row.work->top;
    const Tiles tiles = tiles_of(row);
    const unsigned tile = blockIdx.x, n_top = row.slot->n_top;
    const bool is_listed = row.goal == Goal::COUNT && row.slot->top_p < 1.0f;
    unsigned *list = tiles.list + static_cast<size_t>(tile) * row.arrays.list_length;
    SampleTop *top_list = row.arrays.top_list + static_cast<size_t>(row.index) * row.arrays.n_top;
    clear(shared.tile.keys, SAMPLE_KEYS);
    clear(shared.tile.top_ties, SAMPLE_TILE / 32);
    if (threadIdx.x == 0) {
        shared.n_listed = 0;
    }
    __syncthreads();
    Mass mass = 0, ties = 0;
    visit_tile(row, tile, [&](unsigned token, float raw, float logit) {
        const unsigned key = order_key(logit), raw_key = order_key(raw);
        if (row.goal == Goal::COUNT) {
            mass += key > cut.prefix ? drawable(row, tempered(row, logit)) : 0;
            ties += key == cut.prefix ? 1 : 0;
            if (is_listed && key > cut.prefix) {
                list[atomicAdd(&shared.n_listed, 1u)] = key;
            }
        } else if (row.goal == Goal::MASS) {
            const unsigned bucket = key / SAMPLE_KEYS;
            mass += bucket > cut.prefix ? drawable(row, tempered(row, logit)) : 0;
            if (bucket == cut.prefix) {
                atomicAdd(&shared.tile.keys[key % SAMPLE_KEYS], 1u);
            }
        }
        if (n_top > 0 && raw_key > top.prefix) {
            top_list[atomicAdd(&row.work->n_top_listed, 1u)] = {token, raw};
        } else if (n_top > 0 && raw_key == top.prefix) {
            const unsigned i = token % SAMPLE_TILE;
            atomicOr(&shared.tile.top_ties[i / 32], 1u << i % 32);
        }
    });
    mass = block_prefix(mass, shared.scratch).total;
    __syncthreads();
    ties = block_prefix(ties, shared.scratch).total;
    __syncthreads();
    if (threadIdx.x == 0 && row.goal != Goal::ALL) {
        tiles.mass[tile] = mass;
        tiles.ties[tile] = static_cast<unsigned>(ties);
        tiles.listed[tile] = shared.n_listed;
    }
    if (row.goal == Goal::MASS) {
        for (unsigned key = threadIdx.x; key < SAMPLE_KEYS; key += SAMPLE_THREADS) {
            tiles.keys[tile * SAMPLE_KEYS + key] = shared.tile.keys[key];
        }
    }
}

// The first tokens of a tile that stand at the end of the list, by id: a thread has 32.
DEVICE void list_top_ties(const Row &row, SampleShared &shared) {
    static_assert(SAMPLE_TILE / 32 == SAMPLE_THREADS, "a word of bits a thread");
    const size_t tile = static_cast<size_t>(row.index) * row.arrays.n_tiles + blockIdx.x;
    unsigned *tokens = row.arrays.tile_top_tokens + tile * row.arrays.n_top;
    const unsigned n_top = row.slot->n_top;
    unsigned bits = shared.tile.top_ties[threadIdx.x];
    const BlockPrefix prefix = block_prefix(__popc(bits), shared.scratch);
    for (Mass rank = prefix.before; bits != 0 && rank < n_top; ++rank) {
        tokens[rank] = blockIdx.x * SAMPLE_TILE + threadIdx.x * 32 + __ffs(bits) - 1;
        bits &= bits - 1;
    }
    if (threadIdx.x == 0) {
        row.arrays.tile_top_ties[tile] = static_cast<unsigned>(min(prefix.total, Mass{n_top}));
    }
}

// The token that the row draws.
DEVICE unsigned draw_token(const Row &row, SampleShared &shared) {
    if (row.goal == Goal::GREEDY) {
        return ~static_cast<unsigned>(row.work->argmax);
    }
    End end = {0, 0};
    if (row.goal == Goal::COUNT) {
        end = end_of_count(row, shared);
    } else if (row.goal == Goal::MASS) {
        end = end_of_mass(row, shared);
    }
    return draw(row, shared, end);
}

// What a row that cannot be drawn says of its first broken token.
DEVICE SampleOutput broken_output(const Row &row) {
    const SampleWork &work = *row.work;
    const bool is_raw = work.status == SAMPLE_RAW_NOT_FINITE;
    SampleOutput output = {};
    output.status = work.status;
    if (is_raw || work.status == SAMPLE_NOT_FINITE) {
        const unsigned token = ~(is_raw ? work.raw_broken : work.broken);
        const float raw = row.logits[token];
        const unsigned touched =
            word_of(row, row.arrays.touched, SAMPLE_PENALISES | SAMPLE_BIASES, token, 0);
        output.token = token;
        output.logit = is_raw ? raw : adjusted(row, token, raw, touched, ~0u);
    }
    return output;
}

// The row's last block: the result.
DEVICE void finish_row(const SampleParams &params, const Row &row, SampleShared &shared) {
    SampleOutput output = {};
    if (row.work->status == SAMPLE_DRAWN) {
        const unsigned token = draw_token(row, shared);
        output = {row.work->raw_mass, token, SAMPLE_DRAWN, row.logits[token], row.work->raw_max,
                  row.slot->n_top,    0};
        __syncthreads();
        if (row.slot->n_top > 0) {
            list_top(row, shared, row.arrays.tops + ring_entry(row) * row.arrays.n_top);
        }
    } else {
        output = broken_output(row);
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        commit(params, row, output);
        *row.work = {};
    }
}

KERNEL(sample_draw, SampleParams, SAMPLE_THREADS, 2) {
    if (!is_live(params)) {
        return;
    }
    const Row row = open_row(params);
    SampleShared &shared = shared_memory();
    if (row.work->status == SAMPLE_DRAWN && has_end(row)) {
        split_tile(row, shared);
        __syncthreads();
        if (row.slot->n_top > 0) {
            list_top_ties(row, shared);
        }
    }
    // The blocks of a row without an end come here too: what they read of it must not change.
    if (is_last_block(row, shared)) {
        finish_row(params, row, shared);
    }
}

// Begins sequences. Grid: starts. Block: SAMPLE_THREADS.
KERNEL(sample_start, SampleStartParams, SAMPLE_THREADS, 1) {
    const SampleStart &start = params.starts[blockIdx.x];
    forget(params.arrays, start.index);
    fill(params.arrays, start, params.words);
    if (threadIdx.x == 0) {
        params.arrays.slots[start.index] = start.slot;
    }
}
