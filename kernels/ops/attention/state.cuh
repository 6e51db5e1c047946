// attention: what is known of a line after some positions, and how two such states become one.
//
// With reference score m, a state is the sum l of the weights 2^(s − m) and the sum o of the
// values so weighed. Any m will do that keeps the weights in range, so a state's m follows the
// greatest score only where it is passed by more than SLACK: most pages then leave o as it is.
#pragma once

#include "device/kernel.cuh"

// Weights of a state stay below 2^SLACK.
constexpr float SLACK = 8.0f;

// What stands for m where it is yet −∞, so that differences are −∞ and not NaN.
DEVICE float finite_reference(float m) { return m == -INFINITY ? 0.0f : m; }

// A state of earlier positions and one of later ones, to be added up.
struct Fold {
    float reference;
    float keep; // factor of the earlier state
    float take; // factor of the later state

    __device__ __forceinline__ Fold(float earlier, float later) {
        reference = fmaxf(earlier, later);
        const float finite = finite_reference(reference);
        keep = exp2f(earlier - finite);
        take = exp2f(later - finite);
    }

    __device__ __forceinline__ float operator()(float earlier, float later) const { return fmaf(earlier, keep, later * take); }
};

// An output: adding 0 makes −0 of underflow 0, whether or not hidden positions did so before.
DEVICE float normalised(float sum, float inverse_total) { return sum * inverse_total + 0.0f; }
