// CUDA's atomic operations. Threads take turns here only where they wait, so a plain
// read-modify-write is atomic.
#pragma once

#include <type_traits>

#include "emulator/machine/access.h"

namespace emulator {

template <typename T, typename F>
__attribute__((noinline, no_sanitize("thread"))) T update(T *address, F f) {
    if (reinterpret_cast<uintptr_t>(address) % sizeof(T) != 0) {
        fault("an atomic operation: the address %p is not aligned to %zu bytes", static_cast<void *>(address),
              sizeof(T));
    }
    if (COUNTED) {
        note_access(*current, address, sizeof(T), Access::Atomic, __builtin_return_address(0));
    }
    const T before = *address;
    *address = f(before);
    return before;
}

} // namespace emulator

template <typename T>
T atomicAdd(T *address, std::type_identity_t<T> value) {
    return emulator::update(address, [=](T before) -> T { return before + value; });
}

template <typename T>
T atomicSub(T *address, std::type_identity_t<T> value) {
    return emulator::update(address, [=](T before) -> T { return before - value; });
}

template <typename T>
T atomicMin(T *address, std::type_identity_t<T> value) {
    return emulator::update(address, [=](T before) { return value < before ? value : before; });
}

template <typename T>
T atomicMax(T *address, std::type_identity_t<T> value) {
    return emulator::update(address, [=](T before) { return before < value ? value : before; });
}

template <typename T>
T atomicOr(T *address, std::type_identity_t<T> value) {
    return emulator::update(address, [=](T before) -> T { return before | value; });
}

template <typename T>
T atomicAnd(T *address, std::type_identity_t<T> value) {
    return emulator::update(address, [=](T before) -> T { return before & value; });
}

template <typename T>
T atomicXor(T *address, std::type_identity_t<T> value) {
    return emulator::update(address, [=](T before) -> T { return before ^ value; });
}

template <typename T>
T atomicExch(T *address, std::type_identity_t<T> value) {
    return emulator::update(address, [=](T) { return value; });
}

template <typename T>
T atomicCAS(T *address, std::type_identity_t<T> expected, std::type_identity_t<T> value) {
    return emulator::update(address, [=](T before) { return before == expected ? value : before; });
}

// Counts up to a limit, then begins again at 0.
inline unsigned atomicInc(unsigned *address, unsigned limit) {
    return emulator::update(address, [=](unsigned before) { return before >= limit ? 0 : before + 1; });
}
