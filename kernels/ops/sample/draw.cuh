// What the last block of a row does: where the prefix ends to the token, and which token of it
// the noise draws. It reads what the tiles left, and again the one tile that holds the token.
#pragma once

#include "device/philox.cuh"
#include "ops/sample/search.cuh"

// The end of a prefix: all tokens above `key`, and of those at `key` the first `n_ties` by id.
struct End {
    unsigned key;
    Mass n_ties;
};

// What the tiles of a row left for its last block.
struct Tiles {
    Mass *mass;      // of what min-p keeps before the end
    unsigned *ties;  // tokens at the end's key
    unsigned *listed; // keys in the list, for a nucleus within the top k
    unsigned *list;
    unsigned *keys;
};

DEVICE Tiles tiles_of(const Row &row) {
    const size_t first = static_cast<size_t>(row.index) * row.arrays.n_tiles;
    return {row.arrays.tile_mass + first, row.arrays.tile_ties + first,
            row.arrays.tile_listed + first, row.arrays.tile_list + first * row.arrays.list_length,
            row.arrays.tile_keys + first * SAMPLE_KEYS};
}

DEVICE Mass warp_sum(Mass value) {
    for (unsigned offset = WARP_LANES / 2; offset > 0; offset /= 2) {
        value += __shfl_xor_sync(FULL_WARP, value, offset);
    }
    return value;
}

// Sums up f(i, tile) over the keys of each tile, a warp a tile, and hands the sums to
// take(tile, sum, other_sum), which one lane calls.
template <class Terms, class Take>
DEVICE void reduce_tiles(unsigned n_tiles, Terms terms, Take take) {
    const unsigned lane = threadIdx.x % WARP_LANES;
    for (unsigned tile = threadIdx.x / WARP_LANES; tile < n_tiles;
         tile += SAMPLE_THREADS / WARP_LANES) {
        Mass mass = 0, ties = 0;
        terms(tile, lane, mass, ties);
        mass = warp_sum(mass);
        ties = warp_sum(ties);
        if (lane == 0) {
            take(tile, mass, static_cast<unsigned>(ties));
        }
    }
    __syncthreads();
}

// The end of the nucleus of all tokens: the tiles counted those that have all but the last ten
// bits of its key.
DEVICE End end_of_mass(const Row &row, SampleShared &shared) {
    const Tiles tiles = tiles_of(row);
    SampleSearch &cut = row.work->cut;
    const unsigned prefix = cut.prefix;
    for (unsigned key = threadIdx.x; key < SAMPLE_KEYS; key += SAMPLE_THREADS) {
        shared.search.key_weights[key] = tempered(row, logit_of_key(prefix * SAMPLE_KEYS + key));
    }
    __syncthreads();
    find_bucket<2>(cut, shared, [&](unsigned key) {
        Mass n_tokens = 0;
        for (unsigned tile = 0; tile < row.arrays.n_tiles; ++tile) {
            n_tokens += tiles.keys[tile * SAMPLE_KEYS + key];
        }
        return n_tokens * shared.search.key_weights[key];
    });
    const unsigned last = cut.prefix % SAMPLE_KEYS;
    reduce_tiles(
        row.arrays.n_tiles,
        [&](unsigned tile, unsigned lane, Mass &mass, Mass &ties) {
            const unsigned *keys = tiles.keys + tile * SAMPLE_KEYS;
            for (unsigned key = lane; key < SAMPLE_KEYS; key += WARP_LANES) {
                mass += key > last ? keys[key] * drawable(row, shared.search.key_weights[key]) : 0;
                ties += key == last ? keys[key] : 0;
            }
        },
        [&](unsigned tile, Mass mass, unsigned ties) {
            tiles.mass[tile] += mass;
            tiles.ties[tile] = ties;
        });
    const Mass of_one = shared.search.key_weights[last];
    const Mass missing = cut.missing;
    __syncthreads();
    return {cut.prefix, (missing + of_one - 1) / of_one};
}

// One step of the search in the lists of the row.
template <int LEVEL>
DEVICE void find_in_lists(const Row &row, SampleShared &shared) {
    const Tiles tiles = tiles_of(row);
    SampleSearch &cut = row.work->cut;
    reduce_tiles(
        row.arrays.n_tiles,
        [&](unsigned tile, unsigned lane, Mass &, Mass &) {
            const unsigned *list = tiles.list + static_cast<size_t>(tile) * row.arrays.list_length;
            for (unsigned i = lane; i < tiles.listed[tile]; i += WARP_LANES) {
                if (Digit<LEVEL>::reaches(list[i], cut.prefix)) {
                    atomicAdd(&row_masses(row)[Digit<LEVEL>::of(list[i])],
                              tempered(row, logit_of_key(list[i])));
                }
            }
        },
        [](unsigned, Mass, unsigned) {});
    find_in<LEVEL>(row_masses(row), cut, shared);
}

// The end of the nucleus of the first top_k tokens. The tiles listed those before the last of
// them, fewer than top_k keys; it is these lists that are read several times, not the logits.
DEVICE End end_of_count(const Row &row, SampleShared &shared) {
    const Tiles tiles = tiles_of(row);
    SampleSearch &cut = row.work->cut;
    const End last = {cut.prefix, cut.missing};
    if (row.slot->top_p >= 1.0f) {
        return last;
    }
    Mass own = 0;
    for (unsigned tile = 0; tile < row.arrays.n_tiles; ++tile) {
        const unsigned *list = tiles.list + static_cast<size_t>(tile) * row.arrays.list_length;
        for (unsigned i = threadIdx.x; i < tiles.listed[tile]; i += SAMPLE_THREADS) {
            own += tempered(row, logit_of_key(list[i]));
        }
    }
    const Mass listed = block_prefix(own, shared.scratch).total;
    __syncthreads();
    const Mass of_last = tempered(row, logit_of_key(last.key));
    const Mass target = share_of(row.slot->top_p, listed + last.n_ties * of_last);
    if (listed < target) {
        return {last.key, (target - listed + of_last - 1) / of_last};
    }
    if (threadIdx.x == 0) {
        cut.prefix = 0;
        cut.missing = target;
    }
    __syncthreads();
    find_in_lists<0>(row, shared);
    find_in_lists<1>(row, shared);
    find_in_lists<2>(row, shared);
    const unsigned key = cut.prefix;
    reduce_tiles(
        row.arrays.n_tiles,
        [&](unsigned tile, unsigned lane, Mass &mass, Mass &ties) {
            const unsigned *list = tiles.list + static_cast<size_t>(tile) * row.arrays.list_length;
            for (unsigned i = lane; i < tiles.listed[tile]; i += WARP_LANES) {
                mass += list[i] > key ? drawable(row, tempered(row, logit_of_key(list[i]))) : 0;
                ties += list[i] == key ? 1 : 0;
            }
        },
        [&](unsigned tile, Mass mass, unsigned ties) {
            tiles.mass[tile] = mass;
            tiles.ties[tile] = ties;
        });
    const Mass of_one = tempered(row, logit_of_key(key));
    return {key, (cut.missing + of_one - 1) / of_one};
}

// Chooses the tile: into shared go its number, the point within its mass, and how many of its
// ties are kept.
DEVICE void draw_tile(const Row &row, SampleShared &shared, const End &end, Mass of_tie) {
    const Tiles tiles = tiles_of(row);
    const unsigned tile = threadIdx.x;
    const bool is_tile = tile < row.arrays.n_tiles;
    const Mass ties = is_tile && end.n_ties > 0 ? tiles.ties[tile] : 0;
    const Mass ties_before = block_prefix(ties, shared.scratch).before;
    __syncthreads();
    const Mass kept_ties = ties_before < end.n_ties ? min(ties, end.n_ties - ties_before) : 0;
    const Mass mass = is_tile ? tiles.mass[tile] + kept_ties * of_tie : 0;
    const BlockPrefix prefix = block_prefix(mass, shared.scratch);
    const Mass point =
        point_in(prefix.total, philox_noise(row.slot->seed, row.slot->position));
    if (prefix.before <= point && point < prefix.before + mass) {
        shared.tile_drawn = tile;
        shared.point = point - prefix.before;
        shared.kept_ties = kept_ties;
    }
    __syncthreads();
}

// Draws from what is kept, laid out by token id.
DEVICE unsigned draw(const Row &row, SampleShared &shared, const End &end) {
    const Mass of_tie = end.n_ties > 0 ? drawable(row, tempered(row, logit_of_key(end.key))) : 0;
    draw_tile(row, shared, end, of_tie);

    // A thread takes 32 tokens that follow one another; a gap after each 32 keeps the threads'
    // accesses in different banks.
    constexpr unsigned EACH = SAMPLE_TILE / SAMPLE_THREADS;
    const unsigned first = shared.tile_drawn * SAMPLE_TILE;
    for (unsigned i = threadIdx.x; i < SAMPLE_TILE; i += SAMPLE_THREADS) {
        if (first + i >= row.arrays.vocab) {
            shared.logits[i + i / EACH] = -INFINITY;
        }
    }
    visit_tile(row, shared.tile_drawn, [&](unsigned token, float, float logit) {
        const unsigned i = token - first;
        shared.logits[i + i / EACH] = logit;
    });
    __syncthreads();
    const float *own = shared.logits + threadIdx.x * (EACH + 1);
    Mass n_ties = 0;
    for (unsigned i = 0; i < EACH; ++i) {
        n_ties += order_key(own[i]) == end.key ? 1 : 0;
    }
    const Mass ties_before = block_prefix(n_ties, shared.scratch).before;
    __syncthreads();
    // The mass of the first tokens of this thread that reach more than `point`, and the token.
    const auto walk = [&](Mass point, unsigned &token) {
        Mass mass = 0, rank = ties_before;
        for (unsigned i = 0; i < EACH; ++i) {
            const unsigned key = order_key(own[i]);
            if (key > end.key) {
                mass += drawable(row, tempered(row, own[i]));
            } else if (key == end.key) {
                mass += rank < shared.kept_ties ? of_tie : 0;
                ++rank;
            }
            if (mass > point) {
                token = first + threadIdx.x * EACH + i;
                break;
            }
        }
        return mass;
    };
    unsigned token = 0;
    const Mass mass = walk(~Mass{0}, token);
    const Mass before = block_prefix(mass, shared.scratch).before;
    if (before <= shared.point && shared.point < before + mass) {
        walk(shared.point - before, token);
        shared.token = token;
    }
    __syncthreads();
    return shared.token;
}

// Sorts the row's list of most probable tokens into `out`.
DEVICE void list_top(const Row &row, SampleShared &shared, SampleTop *out) {
    const SampleSearch &top = row.work->top;
    const unsigned n_listed = row.work->n_top_listed, n_top = row.slot->n_top;
    SampleTop *list = row.arrays.top_list + static_cast<size_t>(row.index) * row.arrays.n_top;
    const size_t tile = static_cast<size_t>(row.index) * row.arrays.n_tiles + threadIdx.x;
    const Mass ties = threadIdx.x < row.arrays.n_tiles ? row.arrays.tile_top_ties[tile] : 0;
    const Mass before = block_prefix(ties, shared.scratch).before;
    const unsigned *tokens = row.arrays.tile_top_tokens + tile * row.arrays.n_top;
    for (Mass i = 0; i < ties && before + i < top.missing; ++i) {
        list[n_listed + before + i] = {tokens[i], logit_of_key(top.prefix)};
    }
    __syncthreads();
    for (unsigned i = threadIdx.x; i < n_top; i += SAMPLE_THREADS) {
        const unsigned key = order_key(list[i].logit);
        unsigned rank = 0;
        for (unsigned other = 0; other < n_top; ++other) {
            const unsigned other_key = order_key(list[other].logit);
            const bool first = other_key == key && list[other].token < list[i].token;
            rank += other_key > key || first ? 1 : 0;
        }
        out[rank] = list[i];
    }
}
