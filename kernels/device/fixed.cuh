// Probability mass as 64-bit integers: the twin of ops/sample/fixed.rs, which explains it.
//
//   weight(x) = round_half_even(exp(x) · 2^40)     x ≤ 0
//
// Every step is a single operation that rounds to nearest, in the order of the Rust code, so both
// give the same bits; sums of weights are exact in any order.
#pragma once

#include "device/kernel.cuh"

using Mass = unsigned long long;

constexpr unsigned WEIGHT_BITS = 40;

// exp(x) · 2^bits, a normal number, for x from −87 to 0.
DEVICE float scaled_exp(float x, unsigned bits) {
    constexpr float ROUND = 12582912.0f; // 1.5 · 2^23
    constexpr float LOG2_E = 1.44269504f, LN2_HIGH = 0.6933594f, LN2_LOW = -0.00021219444f;
    const float shifted = x * LOG2_E + ROUND;
    const float n = shifted - ROUND;
    const float r = (x - n * LN2_HIGH) - n * LN2_LOW;
    float p = 0.001381432f;
    p = p * r + 0.008368851f;
    p = p * r + 0.0416684f;
    p = p * r + 0.1666652f;
    p = p * r + 0.49999994f;
    const float y = 1.0f + (r + (r * r) * p);
    const unsigned exponent = (__float_as_uint(shifted) + bits) << 23;
    return __uint_as_float(__float_as_uint(y) + exponent);
}

// The weight of a token whose scaled logit is x below that of the most probable one.
DEVICE Mass weight(float x) {
    constexpr float LEAST = -32.0f;
    return __float2ull_rn(scaled_exp(x > LEAST ? x : LEAST, WEIGHT_BITS));
}

// Maps logits to integers of the same order; −0 and 0 are equal. No logit maps to 0.
DEVICE unsigned order_key(float logit) {
    const unsigned bits = __float_as_uint(logit + 0.0f);
    return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}

// The logit of a key, 0 for both zeros.
DEVICE float logit_of_key(unsigned key) {
    return __uint_as_float((key & 0x80000000u) != 0 ? key ^ 0x80000000u : ~key);
}

// ⌈share · total⌉, at least 1, for a share in 0..=1 and a total from 1 to 2^63.
DEVICE Mass share_of(float share, Mass total) {
    if (share >= 1.0f) {
        return total;
    }
    const unsigned bits = __float_as_uint(share), fraction = bits & 0x7fffffu;
    const unsigned biased = bits >> 23;
    const unsigned mantissa = biased == 0 ? fraction : fraction | 0x800000u;
    // share = mantissa · 2^−shift, and the product is below 2^87.
    const unsigned shift = 150 - (biased == 0 ? 1 : biased);
    if (shift >= 87) {
        return 1;
    }
    const unsigned __int128 product = static_cast<unsigned __int128>(mantissa) * total;
    const unsigned __int128 below_one = (static_cast<unsigned __int128>(1) << shift) - 1;
    return static_cast<Mass>((product + below_one) >> shift);
}

// The point in 0..total that 64 random bits choose.
DEVICE Mass point_in(Mass total, Mass noise) { return __umul64hi(total, noise); }
