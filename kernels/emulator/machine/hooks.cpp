// The functions that the compiler calls before each memory access of the kernels in the counted
// build: those of the thread sanitizer, whose own library is not linked.
#include "counters.h"

#include <cstdint>

#if defined(EMULATOR_COUNTED)

namespace emulator {
namespace {

// The library's initialisers run outside any thread.
void note(const void *address, unsigned n_bytes, bool write, const void *site) {
    if (current != nullptr) {
        note_access(*current, address, n_bytes, write ? Access::Store : Access::Load, site);
    }
}

// More than an instruction moves, or values side by side that the host's compiler moves together
// although they are not aligned to that: as many accesses as a device needs.
void note_range(const void *address, uint64_t n_bytes, bool write, const void *site) {
    const auto at = reinterpret_cast<uintptr_t>(address);
    const uint64_t common = at | n_bytes | 16;
    const uint64_t step = common & -common;
    for (uint64_t offset = 0; offset < n_bytes; offset += step) {
        note(static_cast<const char *>(address) + offset, static_cast<unsigned>(step), write, site);
    }
}

} // namespace
} // namespace emulator

#define HOOKS(N_BYTES, NOTE)                                                                       \
    extern "C" void __tsan_read##N_BYTES(const void *address) {                                    \
        emulator::NOTE(address, N_BYTES, false, __builtin_return_address(0));                      \
    }                                                                                              \
    extern "C" void __tsan_write##N_BYTES(const void *address) {                                   \
        emulator::NOTE(address, N_BYTES, true, __builtin_return_address(0));                       \
    }                                                                                              \
    extern "C" void __tsan_unaligned_read##N_BYTES(const void *address) {                          \
        emulator::note_range(address, N_BYTES, false, __builtin_return_address(0));                \
    }                                                                                              \
    extern "C" void __tsan_unaligned_write##N_BYTES(const void *address) {                         \
        emulator::note_range(address, N_BYTES, true, __builtin_return_address(0));                 \
    }

HOOKS(1, note)
HOOKS(2, note)
HOOKS(4, note)
HOOKS(8, note)
HOOKS(16, note_range) // may be aligned to 8 bytes only

extern "C" void __tsan_read_range(const void *address, unsigned long n_bytes) {
    emulator::note_range(address, n_bytes, false, __builtin_return_address(0));
}

extern "C" void __tsan_write_range(const void *address, unsigned long n_bytes) {
    emulator::note_range(address, n_bytes, true, __builtin_return_address(0));
}

extern "C" void __tsan_init() {}
extern "C" void __tsan_func_entry(void *) {}
extern "C" void __tsan_func_exit() {}

#endif
