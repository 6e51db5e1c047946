// Consecutive values moved by one memory instruction: Pack<float, 4> is a 128-bit load or store.
#pragma once

template <typename T, int N>
struct alignas(N * sizeof(T)) Pack {
    T lane[N];
};

// `index` counts packs; `base` must be aligned to one.
template <int N, typename T>
__device__ __forceinline__ Pack<T, N> load_pack(const T *base, unsigned index) {
    return reinterpret_cast<const Pack<T, N> *>(base)[index];
}

template <int N, typename T>
__device__ __forceinline__ void store_pack(T *base, unsigned index, Pack<T, N> pack) {
    reinterpret_cast<Pack<T, N> *>(base)[index] = pack;
}
