// CUDA's operations of a warp and barriers of a block.
#pragma once

#include "emulator/machine/machine.h"
#include "emulator/machine/votes.h"

inline void __syncthreads(emulator::Place place = emulator::Place::current()) {
    emulator::barrier(0, 0, true, "__syncthreads", place);
}

// The block's votes: a barrier between reading and the next vote keeps them apart.
inline int __syncthreads_count(int predicate, emulator::Place place = emulator::Place::current()) {
    return static_cast<int>(emulator::count_block(predicate != 0, "__syncthreads_count", place));
}

inline int __syncthreads_or(int predicate, emulator::Place place = emulator::Place::current()) {
    return emulator::count_block(predicate != 0, "__syncthreads_or", place) != 0;
}

inline int __syncthreads_and(int predicate, emulator::Place place = emulator::Place::current()) {
    return emulator::count_block(predicate == 0, "__syncthreads_and", place) == 0;
}

inline void __syncwarp(unsigned mask = 0xffffffff, emulator::Place place = emulator::Place::current()) {
    emulator::meet(emulator::SYNC_WARP, mask, nullptr, place);
}

// Orders memory for other threads, which here is always in order.
inline void __threadfence() {}
inline void __threadfence_system() {}
inline void __threadfence_block() {}

namespace emulator {

template <typename T>
T exchange(const Operation &operation, unsigned mask, T value, unsigned source, Place place) {
    static_assert(sizeof(T) <= 8);
    Exchange exchange{};
    memcpy(&exchange.value, &value, sizeof value);
    exchange.source = source;
    meet(operation, mask, &exchange, place);
    memcpy(static_cast<void *>(&value), &exchange.result, sizeof value);
    return value;
}

template <typename T>
T reduce(const Operation &operation, unsigned mask, T value, Place place) {
    Vote vote{static_cast<uint64_t>(value), 0};
    meet(operation, mask, &vote, place);
    return static_cast<T>(vote.result);
}

} // namespace emulator

// `width` is a power of two that divides the warp into segments.
template <typename T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32,
              emulator::Place place = emulator::Place::current()) {
    const unsigned lane = emulator::current->lane, inside = width - 1;
    return emulator::exchange(emulator::SHUFFLE, mask, value, (lane & ~inside) | (source & inside), place);
}

template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = 32,
                  emulator::Place place = emulator::Place::current()) {
    const unsigned lane = emulator::current->lane, outside = ~(width - 1u);
    const unsigned source = lane ^ lane_mask;
    return emulator::exchange(emulator::SHUFFLE_XOR, mask, value, (source & outside) > (lane & outside) ? lane : source, place);
}

template <typename T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32,
                   emulator::Place place = emulator::Place::current()) {
    const unsigned lane = emulator::current->lane, inside = width - 1;
    return emulator::exchange(emulator::SHUFFLE_DOWN, mask, value, (lane & inside) + delta <= inside ? lane + delta : lane, place);
}

template <typename T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32,
                 emulator::Place place = emulator::Place::current()) {
    const unsigned lane = emulator::current->lane, inside = width - 1;
    return emulator::exchange(emulator::SHUFFLE_UP, mask, value, (lane & inside) >= delta ? lane - delta : lane, place);
}

inline unsigned __ballot_sync(unsigned mask, int predicate, emulator::Place place = emulator::Place::current()) {
    return emulator::reduce(emulator::BALLOT, mask, unsigned{predicate != 0}, place);
}

inline int __any_sync(unsigned mask, int predicate, emulator::Place place = emulator::Place::current()) {
    return emulator::reduce(emulator::ANY, mask, unsigned{predicate != 0}, place) != 0;
}

inline int __all_sync(unsigned mask, int predicate, emulator::Place place = emulator::Place::current()) {
    return emulator::reduce(emulator::ALL, mask, unsigned{predicate == 0}, place) == 0;
}

template <typename T>
unsigned __match_any_sync(unsigned mask, T value, emulator::Place place = emulator::Place::current()) {
    static_assert(sizeof(T) <= 8);
    uint64_t bits = 0;
    memcpy(&bits, &value, sizeof value);
    return static_cast<unsigned>(emulator::reduce(emulator::MATCH, mask, bits, place));
}

inline unsigned __reduce_add_sync(unsigned mask, unsigned value,
                                  emulator::Place place = emulator::Place::current()) {
    return emulator::reduce(emulator::ADD, mask, value, place);
}

inline int __reduce_add_sync(unsigned mask, int value, emulator::Place place = emulator::Place::current()) {
    return emulator::reduce(emulator::ADD, mask, value, place);
}

inline unsigned __reduce_min_sync(unsigned mask, unsigned value,
                                  emulator::Place place = emulator::Place::current()) {
    return emulator::reduce(emulator::MINIMUM, mask, value, place);
}

inline int __reduce_min_sync(unsigned mask, int value, emulator::Place place = emulator::Place::current()) {
    return emulator::reduce(emulator::MINIMUM, mask, value, place);
}

inline unsigned __reduce_max_sync(unsigned mask, unsigned value,
                                  emulator::Place place = emulator::Place::current()) {
    return emulator::reduce(emulator::MAXIMUM, mask, value, place);
}

inline int __reduce_max_sync(unsigned mask, int value, emulator::Place place = emulator::Place::current()) {
    return emulator::reduce(emulator::MAXIMUM, mask, value, place);
}

inline unsigned __reduce_or_sync(unsigned mask, unsigned value,
                                 emulator::Place place = emulator::Place::current()) {
    return emulator::reduce(emulator::OR, mask, value, place);
}

inline unsigned __reduce_and_sync(unsigned mask, unsigned value,
                                  emulator::Place place = emulator::Place::current()) {
    return emulator::reduce(emulator::AND, mask, value, place);
}

inline unsigned __reduce_xor_sync(unsigned mask, unsigned value,
                                  emulator::Place place = emulator::Place::current()) {
    return emulator::reduce(emulator::XOR, mask, value, place);
}
