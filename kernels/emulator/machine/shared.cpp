// Shared memory and the asynchronous copies into it.
//
// Static arrays are thread-local variables of this library: all fibers of a block run on one
// thread of the system, so they share them. The dynamic memory is one buffer. Both are filled
// with 0xff before a block runs: what is read before it was written is NaN, or a huge index.
//
// Under the address sanitizer, which knows no bounds of thread-local variables, static arrays are
// ordinary ones and keep their values.
#include "counters.h"

#include <cstring>
#include <link.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

extern "C" char __ehdr_start[] __attribute__((visibility("hidden")));
extern "C" char _end[] __attribute__((visibility("hidden")));

namespace emulator {
namespace {

constexpr unsigned char POISON = 0xff;

// Past the end of the dynamic memory there is poison as well; it is looked at after each block.
constexpr unsigned MARGIN_BYTES = 1024;

alignas(1024) char dynamic_memory[MAX_SHARED_BYTES + MARGIN_BYTES];

// The static arrays of the system's thread that runs the launch.
char *static_memory;
size_t static_bytes;

#if !defined(__SANITIZE_ADDRESS__)
// Asking for its address makes the system lay out the thread's variables.
thread_local char anchor;

int find_thread_locals(dl_phdr_info *library, size_t, void *) {
    if (library->dlpi_addr != reinterpret_cast<ElfW(Addr)>(__ehdr_start)) {
        return 0;
    }
    static_memory = static_cast<char *>(library->dlpi_tls_data);
    for (unsigned i = 0; i < library->dlpi_phnum; ++i) {
        if (library->dlpi_phdr[i].p_type == PT_TLS) {
            static_bytes = library->dlpi_phdr[i].p_memsz;
        }
    }
    return 1;
}
#endif

} // namespace

void find_static_shared() {
#if defined(__SANITIZE_ADDRESS__)
    static_memory = __ehdr_start;
    static_bytes = _end - __ehdr_start;
#else
    *const_cast<volatile char *>(&anchor) = 0;
    dl_iterate_phdr(find_thread_locals, nullptr);
#endif
}

void poison_shared() {
    block.shared = dynamic_memory;
#if defined(__SANITIZE_ADDRESS__)
    ASAN_UNPOISON_MEMORY_REGION(dynamic_memory, sizeof dynamic_memory);
    memset(dynamic_memory, POISON, block.shared_bytes);
    ASAN_POISON_MEMORY_REGION(dynamic_memory + block.shared_bytes, sizeof dynamic_memory - block.shared_bytes);
#else
    memset(dynamic_memory, POISON, block.shared_bytes + MARGIN_BYTES);
    memset(static_memory, POISON, static_bytes);
#endif
}

bool find_shared(const void *pointer, unsigned n_bytes, uint32_t &address) {
    const char *byte = static_cast<const char *>(pointer);
    if (byte >= dynamic_memory && byte + n_bytes <= dynamic_memory + block.shared_bytes) {
        address = DYNAMIC_SHARED + static_cast<uint32_t>(byte - dynamic_memory);
        return true;
    }
    if (byte >= static_memory && byte + n_bytes <= static_memory + static_bytes) {
        address = static_cast<uint32_t>(byte - static_memory);
        return true;
    }
    return false;
}

void check_shared_margin() {
#if !defined(__SANITIZE_ADDRESS__)
    for (unsigned i = 0; i < MARGIN_BYTES; ++i) {
        if (static_cast<unsigned char>(dynamic_memory[block.shared_bytes + i]) != POISON) {
            fault("dynamic shared memory was written past the end at %u bytes, at byte %u", block.shared_bytes,
                  block.shared_bytes + i);
        }
    }
#endif
}

uint32_t shared_address(const void *pointer) {
    if (uint32_t address = 0; find_shared(pointer, 0, address)) {
        return address;
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
    if (uint64_t{address} + n_bytes > static_bytes) {
        fault("%s: %u is no shared address", name, address);
    }
    return static_memory + address;
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
    if (COUNTED) {
        const void *site = __builtin_return_address(0);
        if (n_bytes > 0) {
            note_access(*current, source, n_bytes, Access::CopyLoad, site);
        }
        note_access(*current, pointer, size, Access::CopyStore, site);
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
    for (size_t i = first; i < thread.groups[n_landing - 1]; ++i) {
        const Copy &copy = thread.copies[i];
        if (schedule_copies() == Copies::Lazy) {
            land(copy);
        }
        if (COUNTED) {
            // It may have landed at any time up to now.
            note_landing(copy.target, copy.n_bytes + copy.n_zeros, __builtin_return_address(0));
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
