// Shared memory and the asynchronous copies into it.
//
// Static arrays stand in a section of their own, where every block of every kernel finds its
// variables again; the dynamic memory is one buffer. Both are filled with 0xff before a block
// runs: what is read before it was written is NaN, or a huge index.
#include "machine.h"

#include <cstring>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

extern "C" char __start_emulated_shared[] __attribute__((weak, visibility("hidden")));
extern "C" char __stop_emulated_shared[] __attribute__((weak, visibility("hidden")));

namespace emulator {
namespace {

constexpr unsigned char POISON = 0xff;

// Past the end of the dynamic memory there is poison as well; it is looked at after each block.
constexpr unsigned MARGIN_BYTES = 1024;

alignas(1024) char dynamic_memory[MAX_SHARED_BYTES + MARGIN_BYTES];

size_t static_bytes() { return __stop_emulated_shared - __start_emulated_shared; }

// The sanitizer keeps red zones between the static arrays, so this writes past it.
__attribute__((no_sanitize("address"))) void fill_poison(char *memory, size_t n_bytes) {
#if defined(__SANITIZE_ADDRESS__)
    for (volatile char *byte = memory; byte < memory + n_bytes; ++byte) {
        *byte = static_cast<char>(POISON);
    }
#else
    memset(memory, POISON, n_bytes);
#endif
}

} // namespace

void poison_shared() {
    block.shared = dynamic_memory;
#if defined(__SANITIZE_ADDRESS__)
    ASAN_UNPOISON_MEMORY_REGION(dynamic_memory, sizeof dynamic_memory);
#endif
    memset(dynamic_memory, POISON, block.shared_bytes + MARGIN_BYTES);
#if defined(__SANITIZE_ADDRESS__)
    ASAN_POISON_MEMORY_REGION(dynamic_memory + block.shared_bytes, sizeof dynamic_memory - block.shared_bytes);
#endif
    fill_poison(__start_emulated_shared, static_bytes());
}

uint32_t shared_address(const void *pointer) {
    const char *byte = static_cast<const char *>(pointer);
    if (byte >= dynamic_memory && byte <= dynamic_memory + block.shared_bytes) {
        return DYNAMIC_SHARED + static_cast<uint32_t>(byte - dynamic_memory);
    }
    if (byte >= __start_emulated_shared && byte <= __stop_emulated_shared) {
        return static_cast<uint32_t>(byte - __start_emulated_shared);
    }
    fault("shared_address: %p is not in shared memory", pointer);
}

char *shared_pointer(uint32_t address, unsigned n_bytes, unsigned alignment, const char *name) {
    if (address % alignment != 0) {
        fault("%s: the shared address %u is not aligned to %u bytes", name, address, alignment);
    }
    if (address >= DYNAMIC_SHARED) {
        const uint32_t offset = address - DYNAMIC_SHARED;
        if (uint64_t{offset} + n_bytes > block.shared_bytes) {
            fault("%s: byte %u of dynamic shared memory is past its end at %u", name, offset + n_bytes - 1,
                  block.shared_bytes);
        }
        return dynamic_memory + offset;
    }
    if (uint64_t{address} + n_bytes > static_bytes()) {
        fault("%s: %u is no shared address", name, address);
    }
    return __start_emulated_shared + address;
}

static void land(const Copy &copy) {
    memcpy(copy.target, copy.source, copy.n_bytes);
    memset(copy.target + copy.n_bytes, 0, copy.n_zeros);
}

void copy_async(uint32_t target, const void *source, unsigned size, unsigned n_bytes) {
    char *pointer = shared_pointer(target, size, size, "cp.async");
    if (reinterpret_cast<uintptr_t>(source) % size != 0) {
        fault("cp.async: the source %p is not aligned to %u bytes", source, size);
    }
    if (n_bytes > size) {
        fault("cp.async: %u source bytes for a copy of %u", n_bytes, size);
    }
    current->copies.push_back({pointer, static_cast<const char *>(source), n_bytes, size - n_bytes});
    if (schedule_copies() == Copies::Eager) {
        land(current->copies.back());
    }
}

void copy_commit() { current->groups.push_back(current->copies.size()); }

void copy_wait(unsigned n_under_way) {
    Thread &thread = *current;
    const size_t n_groups = thread.groups.size();
    const size_t n_landing = n_groups > n_under_way ? n_groups - n_under_way : 0;
    if (n_landing <= thread.n_groups_landed) {
        return;
    }
    const size_t first = thread.n_groups_landed > 0 ? thread.groups[thread.n_groups_landed - 1] : 0;
    if (schedule_copies() == Copies::Lazy) {
        for (size_t i = first; i < thread.groups[n_landing - 1]; ++i) {
            land(thread.copies[i]);
        }
    }
    thread.n_groups_landed = n_landing;
    if (n_landing == n_groups && thread.copies.size() == thread.groups.back()) {
        thread.copies.clear();
        thread.groups.clear();
        thread.n_groups_landed = 0;
    }
}

} // namespace emulator
