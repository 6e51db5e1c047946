// matmul_pack: activations → operands B for the prefill kernels, once an operation; what is done to
// them stands in activations.cuh.
//
// A block a token, of MATMUL_THREADS threads as in a decode kernel, so that sums have the same
// order. Bound by memory: reads 4 bytes a value twice, writes 2.

#include "ops/matmul/activations.cuh"

// Where the words of a token's share t of a block go, and where the block's sum: as mma takes
// neighbouring tokens.
struct LaneOrder {
    DEVICE size_t sum(const MatmulPacked &packed, unsigned token, unsigned block) {
        const size_t group = token / MATMUL_GROUP_TOKENS;
        return (group * packed.n_blocks + block) * MATMUL_GROUP_TOKENS + token % MATMUL_GROUP_TOKENS;
    }
    DEVICE void store(const MatmulPacked &packed, unsigned token, unsigned block, unsigned t,
                      const Pack<uint32_t, 4> &words) {
        store_pack<4>(packed.fragments + 16 * sum(packed, token, block) + 4 * t, words);
    }
};

// As mma takes any tokens: each for itself.
struct TokenOrder {
    DEVICE size_t sum(const MatmulPacked &packed, unsigned token, unsigned block) {
        return static_cast<size_t>(token) * packed.n_blocks + block;
    }
    DEVICE void store(const MatmulPacked &packed, unsigned token, unsigned block, unsigned t,
                      const Pack<uint32_t, 4> &words) {
        store_pack<4>(packed.fragments + 16 * sum(packed, token, block) + 4 * t, words);
    }
};

// And as wgmma does: all groups of a step together, and eight columns of a token.
struct CoreOrder {
    DEVICE size_t place(const MatmulPacked &packed, unsigned token, unsigned block) {
        const size_t step = block / STEP_BLOCKS;
        return (step * packed.n_groups + token / MATMUL_GROUP_TOKENS) * STEP_BLOCKS +
               block % STEP_BLOCKS;
    }
    DEVICE size_t sum(const MatmulPacked &packed, unsigned token, unsigned block) {
        return place(packed, token, block) * MATMUL_GROUP_TOKENS + token % MATMUL_GROUP_TOKENS;
    }
    DEVICE void store(const MatmulPacked &packed, unsigned token, unsigned block, unsigned t,
                      const Pack<uint32_t, 4> &words) {
        uint32_t *fragments = packed.fragments + place(packed, token, block) * 4 * WARP_LANES;
        const unsigned in_group = token % MATMUL_GROUP_TOKENS;
#pragma unroll
        for (unsigned core = 0; core < 4; ++core) {
            fragments[(core * MATMUL_GROUP_TOKENS + in_group) * 4 + t] = words.lane[core];
        }
    }
};

template <bool BF16, typename Order>
DEVICE void pack_token(const MatmulPackParams &params) {
    __shared__ TokenStatistics statistics;
    const MatmulInput &input = params.input;
    const MatmulPacked &packed = params.packed;
    const unsigned token = blockIdx.x;
    const bool exists = token < input.n_tokens;
    const float *row = input.x;
    float scale = 0.0f;
    if (exists) {
        scale_tokens<BF16>(input, token, 1, statistics);
        row = input_row(input, token);
        scale = statistics.scale[0].encode;
        if (threadIdx.x == 0) {
            packed.factors[token] = statistics.scale[0].decode;
        }
    }
    // Whole warps go round, for the sums.
    for (unsigned share = threadIdx.x; share / WARP_LANES * WARP_LANES < packed.n_blocks * 4;
         share += MATMUL_THREADS) {
        const unsigned block = share / 4;
        float sum = 0.0f;
        if (block < packed.n_blocks) {
            Pack<uint32_t, 4> words{};
            if (exists) {
                words = encode_share<BF16>(input, row, 32 * block, share % 4, scale, sum);
            }
            Order::store(packed, token, block, share % 4, words);
        }
        const uint32_t word = split_sum(sum);
        if (block < packed.n_blocks && share % 4 == 0) {
            packed.sums[Order::sum(packed, token, block)] = word;
        }
    }
}

// Grid: n_groups · MATMUL_GROUP_TOKENS blocks, of TokenOrder n_tokens. Block: MATMUL_THREADS
// threads.
KERNEL(matmul_pack_f16, MatmulPackParams, MATMUL_THREADS, 4) { pack_token<false, LaneOrder>(params); }
KERNEL(matmul_pack_bf16, MatmulPackParams, MATMUL_THREADS, 4) { pack_token<true, LaneOrder>(params); }

KERNEL(matmul_pack_tokens_f16, MatmulPackParams, MATMUL_THREADS, 4) {
    pack_token<false, TokenOrder>(params);
}
KERNEL(matmul_pack_tokens_bf16, MatmulPackParams, MATMUL_THREADS, 4) {
    pack_token<true, TokenOrder>(params);
}

KERNEL(matmul_pack_cores_f16, MatmulPackParams, MATMUL_THREADS, 4) { pack_token<false, CoreOrder>(params); }
KERNEL(matmul_pack_cores_bf16, MatmulPackParams, MATMUL_THREADS, 4) { pack_token<true, CoreOrder>(params); }
