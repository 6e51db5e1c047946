// Activations → operands B of the tensor core.
//
//   x̂[r, i] = x[r, i]                     with a norm: x[r, i] · weight[i]
//   f16:  round(x̂ · 2^e), where 2^14 ≤ max_i |x̂[r, i]| · 2^e < 2^15       factor 2^−e
//   bf16: round(x̂)                                                        factor 1
//   with a norm the factor is multiplied by 1 / sqrt(mean x² + epsilon)
//
// A product is multiplied by its token's factor at the end. The power of two keeps large values
// from overflowing and small ones from vanishing, and is exact. Rows of zeros stay zeros; an
// infinity or NaN stays one, and so does the token's output.
//
// Fragments: for each block of 32 columns and each token four shares of 16 bytes, share t holding
// columns 2t, 2t + 1, then + 8, + 16, + 24: the registers of lane 4 token + t for the block's two
// mma. Sums: of the rounded values of a block, over SUM_UNIT, as f16 and, in the upper half, the
// f16 of what that rounding lost.
#pragma once

#include "device/reduce.cuh"
#include "ops/matmul/scales.cuh"

// The largest over the 32 lanes, in every lane; NaN is no number to compare with.
DEVICE float warp_max(float value) {
#pragma unroll
    for (unsigned offset = WARP_LANES / 2; offset > 0; offset /= 2) {
        value = fmaxf(value, __shfl_xor_sync(FULL_WARP, value, offset));
    }
    return value;
}

DEVICE const float *input_row(const MatmulInput &input, unsigned token) {
    const size_t row = input.rows == nullptr ? token : input.rows[token];
    return input.x + row * input.cols;
}

// Two columns of an array of `cols`, from an even one on; columns behind the last are zero. Pairs
// of all rows are aligned where `cols` is even.
DEVICE Pack<float, 2> two_columns(const float *row, unsigned column, unsigned cols) {
    Pack<float, 2> pair{};
    if (column + 1 < cols && cols % 2 == 0) {
        pair = load_pack<2>(row + column);
    } else if (column < cols) {
        pair.lane[0] = row[column];
        pair.lane[1] = column + 1 < cols ? row[column + 1] : 0.0f;
    }
    return pair;
}

DEVICE Pack<float, 2> weighted_columns(const MatmulInput &input, const float *row, unsigned column) {
    auto pair = two_columns(row, column, input.cols);
    if (input.norm_weight != nullptr) {
        const auto weights = two_columns(input.norm_weight, column, input.cols);
        pair.lane[0] *= weights.lane[0];
        pair.lane[1] *= weights.lane[1];
    }
    return pair;
}

// What a token's values are multiplied by before they are rounded, and its products after.
struct TokenScale {
    float encode, decode;
};

// What a block finds out about up to MATMUL_GROUP_TOKENS tokens.
struct TokenStatistics {
    float largest[MATMUL_GROUP_TOKENS][MATMUL_WARPS];
    float squares[MATMUL_GROUP_TOKENS][MATMUL_WARPS];
    TokenScale scale[MATMUL_GROUP_TOKENS];
};

DEVICE TokenScale power_of_two(float largest) {
    const int exponent = static_cast<int>(__float_as_uint(largest) >> 23);
    // 2^14 ≤ largest · 2^up < 2^15; both powers have to be normal numbers. An infinity has no
    // scale, a subnormal number or zero the largest.
    const int up = exponent == 255 ? 0 : min(141 - exponent, 126);
    return {__uint_as_float(static_cast<uint32_t>(127 + up) << 23),
            __uint_as_float(static_cast<uint32_t>(127 - up) << 23)};
}

// Scales of tokens first_token … + n_tokens − 1, by a block of MATMUL_THREADS threads; the order
// of the sums depends on the columns alone. Ends with a barrier.
template <bool BF16>
DEVICE void scale_tokens(const MatmulInput &input, unsigned first_token, unsigned n_tokens,
                         TokenStatistics &statistics) {
    const unsigned lane = threadIdx.x % WARP_LANES, warp = threadIdx.x / WARP_LANES;
#pragma unroll 1
    for (unsigned token = 0; token < n_tokens; ++token) {
        const float *row = input_row(input, first_token + token);
        float largest = 0.0f, squares = 0.0f;
#pragma unroll 2
        for (unsigned i = 2 * threadIdx.x; i < input.cols; i += 2 * MATMUL_THREADS) {
            const auto x = two_columns(row, i, input.cols);
            const auto weighted = weighted_columns(input, row, i);
            squares = fmaf(x.lane[0], x.lane[0], squares);
            squares = fmaf(x.lane[1], x.lane[1], squares);
            largest = fmaxf(largest, fmaxf(fabsf(weighted.lane[0]), fabsf(weighted.lane[1])));
        }
        largest = warp_max(largest);
        squares = warp_sum(squares);
        if (lane == 0) {
            statistics.largest[token][warp] = largest;
            statistics.squares[token][warp] = squares;
        }
    }
    __syncthreads();
    if (threadIdx.x < n_tokens) {
        float largest = 0.0f, squares = 0.0f;
        for (unsigned i = 0; i < MATMUL_WARPS; ++i) {
            largest = fmaxf(largest, statistics.largest[threadIdx.x][i]);
            squares += statistics.squares[threadIdx.x][i];
        }
        TokenScale scale = {1.0f, 1.0f};
        if constexpr (!BF16) {
            scale = power_of_two(largest);
        }
        if (input.norm_weight != nullptr) {
            const float mean_square = squares / static_cast<float>(input.cols);
            scale.decode *= 1.0f / sqrtf(mean_square + input.epsilon);
        }
        statistics.scale[threadIdx.x] = scale;
    }
    __syncthreads();
}

// Two values as the tensor core takes them, and their sum as it sees them.
template <bool BF16>
DEVICE uint32_t encode(Pack<float, 2> pair, float scale, float &sum) {
    if constexpr (BF16) {
        const __nv_bfloat162 rounded = __floats2bfloat162_rn(pair.lane[0], pair.lane[1]);
        return static_cast<uint32_t>(__bfloat16_as_ushort(rounded.x)) |
               static_cast<uint32_t>(__bfloat16_as_ushort(rounded.y)) << 16;
    }
    const __half low = __float2half_rn(pair.lane[0] * scale);
    const __half high = __float2half_rn(pair.lane[1] * scale);
    sum += __half2float(low) + __half2float(high);
    return static_cast<uint32_t>(__half_as_ushort(low)) |
           static_cast<uint32_t>(__half_as_ushort(high)) << 16;
}

// Share t of a block of 32 columns that begins at `column`.
template <bool BF16>
DEVICE Pack<uint32_t, 4> encode_share(const MatmulInput &input, const float *row, unsigned column,
                                      unsigned t, float scale, float &sum) {
    Pack<uint32_t, 4> share;
#pragma unroll
    for (unsigned i = 0; i < 4; ++i) {
        const auto pair = weighted_columns(input, row, column + 8 * i + 2 * t);
        share.lane[i] = encode<BF16>(pair, scale, sum);
    }
    return share;
}

// The sum over four neighbouring lanes in two halves; all lanes must take part.
DEVICE uint32_t split_sum(float sum) {
    sum += __shfl_xor_sync(FULL_WARP, sum, 1);
    sum += __shfl_xor_sync(FULL_WARP, sum, 2);
    sum *= 1.0f / SUM_UNIT;
    const __half high = __float2half_rn(sum);
    const __half rest = __float2half_rn(sum - __half2float(high));
    return static_cast<uint32_t>(__half_as_ushort(high)) |
           static_cast<uint32_t>(__half_as_ushort(rest)) << 16;
}
