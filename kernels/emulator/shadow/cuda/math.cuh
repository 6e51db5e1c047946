// CUDA's arithmetic beyond <cmath>. What rounds is rounded to nearest, as on a device; the fast
// functions (`__expf` and the like) are exact here and are not on a device.
#pragma once

#include <cmath>
#include <cstdint>
#include <type_traits>

inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline float __frsqrt_rn(float x) { return static_cast<float>(1.0 / std::sqrt(static_cast<double>(x))); }
inline float __fsqrt_rn(float x) { return std::sqrt(x); }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float __fdividef(float a, float b) { return a / b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline float __saturatef(float x) { return x > 0.0f ? (x < 1.0f ? x : 1.0f) : 0.0f; }
inline float __expf(float x) { return std::exp(x); }
inline float __logf(float x) { return std::log(x); }
inline float __log2f(float x) { return std::log2(x); }
inline float __sinf(float x) { return std::sin(x); }
inline float __cosf(float x) { return std::cos(x); }
inline float __powf(float x, float y) { return std::pow(x, y); }

inline float __int2float_rn(int x) { return static_cast<float>(x); }
inline float __uint2float_rn(unsigned x) { return static_cast<float>(x); }
inline float __ll2float_rn(long long x) { return static_cast<float>(x); }
inline float __ull2float_rn(unsigned long long x) { return static_cast<float>(x); }
inline float __double2float_rn(double x) { return static_cast<float>(x); }

namespace emulator {

// Conversions to integers saturate, and NaN becomes 0.
template <typename Integer>
Integer to_integer(double x) {
    if (std::isnan(x)) {
        return 0;
    }
    constexpr double scale = std::is_signed_v<Integer> ? 0x1p-1 : 1.0;
    const double limit = std::ldexp(scale, 8 * sizeof(Integer));
    if (x >= limit) {
        return static_cast<Integer>(std::is_signed_v<Integer> ? ~(uint64_t{1} << (8 * sizeof(Integer) - 1))
                                                              : ~uint64_t{0});
    }
    const double least = std::is_signed_v<Integer> ? -limit : 0.0;
    return static_cast<Integer>(x < least ? least : x);
}

} // namespace emulator

inline int __float2int_rn(float x) { return emulator::to_integer<int>(std::nearbyint(x)); }
inline int __float2int_rz(float x) { return emulator::to_integer<int>(std::trunc(x)); }
inline int __float2int_rd(float x) { return emulator::to_integer<int>(std::floor(x)); }
inline unsigned __float2uint_rn(float x) { return emulator::to_integer<unsigned>(std::nearbyint(x)); }
inline unsigned __float2uint_rz(float x) { return emulator::to_integer<unsigned>(std::trunc(x)); }
inline long long __float2ll_rn(float x) { return emulator::to_integer<long long>(std::nearbyint(x)); }
inline unsigned long long __float2ull_rn(float x) {
    return emulator::to_integer<unsigned long long>(std::nearbyint(x));
}
inline unsigned long long __float2ull_rz(float x) {
    return emulator::to_integer<unsigned long long>(std::trunc(x));
}
inline long long __double2ll_rn(double x) { return emulator::to_integer<long long>(std::nearbyint(x)); }

// CUDA has these for mixed types too: the arguments become their common type. Of a number and
// NaN the number is taken.
template <typename A, typename B>
std::common_type_t<A, B> min(A a, B b) {
    using T = std::common_type_t<A, B>;
    if constexpr (std::is_floating_point_v<T>) {
        return std::fmin(static_cast<T>(a), static_cast<T>(b));
    } else {
        return static_cast<T>(b) < static_cast<T>(a) ? static_cast<T>(b) : static_cast<T>(a);
    }
}
template <typename A, typename B>
std::common_type_t<A, B> max(A a, B b) {
    using T = std::common_type_t<A, B>;
    if constexpr (std::is_floating_point_v<T>) {
        return std::fmax(static_cast<T>(a), static_cast<T>(b));
    } else {
        return static_cast<T>(a) < static_cast<T>(b) ? static_cast<T>(b) : static_cast<T>(a);
    }
}
