// The emulated twin of kernels/device/memory.cuh: each access is one of the host's as well.
#pragma once

#include "device/kernel.cuh"

template <typename T, int N>
struct alignas(N * sizeof(T)) Pack {
    T lane[N];
};

namespace emulator {

// `n_bytes` as one value, so that the compiler cannot split the access.
template <unsigned N_BYTES>
struct Word {
    typedef uint8_t Type __attribute__((vector_size(N_BYTES), may_alias));
};

template <unsigned N_BYTES>
DEVICE void check_alignment(const void *address, const char *what) {
    if (reinterpret_cast<uintptr_t>(address) % N_BYTES != 0) {
        fault("%s: the address %p is not aligned to %u bytes", what, address, N_BYTES);
    }
}

template <typename Value>
DEVICE Value load(const void *address, const char *what) {
    check_alignment<sizeof(Value)>(address, what);
    return __builtin_bit_cast(Value, *static_cast<const typename Word<sizeof(Value)>::Type *>(address));
}

template <typename Value>
DEVICE void store(void *address, const Value &value, const char *what) {
    using Type = typename Word<sizeof(Value)>::Type;
    check_alignment<sizeof(Value)>(address, what);
    *static_cast<Type *>(address) = __builtin_bit_cast(Type, value);
}

} // namespace emulator

template <int N, typename T>
DEVICE Pack<T, N> load_pack(const T *address) {
    return emulator::load<Pack<T, N>>(address, "load_pack");
}

template <int N, typename T>
DEVICE void store_pack(T *address, Pack<T, N> pack) {
    emulator::store(address, pack, "store_pack");
}

DEVICE uint4 load_streaming(const void *address) { return emulator::load<uint4>(address, "load_streaming"); }

DEVICE uint32_t load_streaming_word(const void *address) {
    return emulator::load<uint32_t>(address, "load_streaming_word");
}
