// What the counted build notes of a kernel's accesses to memory. Apart from counters.h, so that
// kernels need not be compiled again for every change of what is counted.
#pragma once

#include "machine.h"

namespace emulator {

#if defined(EMULATOR_COUNTED)
constexpr bool COUNTED = true;
#else
constexpr bool COUNTED = false;
#endif

// What an instruction does with memory.
enum class Access : uint8_t { Load, Store, Atomic, CopyLoad, CopyStore, MatrixLoad };

// A lane's access. Faults where nothing is allocated, or where it races with another thread's
// access to shared memory.
void note_access(Thread &thread, const void *address, unsigned n_bytes, Access access, const void *site);

// An asynchronous copy is waited for: a write to shared memory, and no request of its own.
void note_landing(const void *shared, unsigned n_bytes, const void *site);

} // namespace emulator
