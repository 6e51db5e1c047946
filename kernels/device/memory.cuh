// Memory accesses of more than a word: one instruction each, where plain C++ might be split.
//
// `Pack<float, 4>` is a 128-bit load or store. Addresses are aligned to the pack.
#pragma once

#include "device/kernel.cuh"

template <typename T, int N>
struct alignas(N * sizeof(T)) Pack {
    T lane[N];
};

// Reads through the caches. For data that other blocks read too, or that this kernel wrote.
template <int N, typename T>
DEVICE Pack<T, N> load_pack(const T *address) {
    return *reinterpret_cast<const Pack<T, N> *>(address);
}

template <int N, typename T>
DEVICE void store_pack(T *address, Pack<T, N> pack) {
    *reinterpret_cast<Pack<T, N> *>(address) = pack;
}

// Reads 16 bytes that nothing writes during the kernel and that are used once: they go past L1.
DEVICE uint4 load_streaming(const void *address) {
    return __ldcs(static_cast<const uint4 *>(address));
}

// Reads 4 bytes likewise.
DEVICE uint32_t load_streaming_word(const void *address) {
    return __ldcs(static_cast<const uint32_t *>(address));
}
