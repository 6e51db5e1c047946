#include "memory.h"

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

namespace emulator {
namespace {

constexpr size_t ALIGNMENT = 256;
constexpr size_t MARGIN_BYTES = 256;
constexpr unsigned char POISON = 0xff;
constexpr unsigned char MARGIN = 0xa5;

std::map<uintptr_t, Allocation> allocations;
size_t total_bytes = size_t{8} << 30;
size_t used_bytes;

// The allocation that was asked for last: mostly it is asked for again.
const Allocation *last_found;

bool holds(const Allocation &allocation, uintptr_t address, size_t n_bytes) {
    const size_t offset = address - reinterpret_cast<uintptr_t>(allocation.start);
    return offset <= allocation.n_bytes && n_bytes <= allocation.n_bytes - offset;
}

// The end of the room an allocation takes, margin included.
size_t footprint(size_t n_bytes) { return (n_bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT + MARGIN_BYTES; }

} // namespace

void *allocate(size_t n_bytes, Home home) {
    const size_t room_taken = home == Home::Device ? n_bytes : 0;
    if (room_taken > total_bytes - used_bytes) {
        return nullptr;
    }
    const size_t n_all = MARGIN_BYTES + footprint(n_bytes);
    char *memory = static_cast<char *>(aligned_alloc(ALIGNMENT, n_all));
    if (memory == nullptr) {
        return nullptr;
    }
    char *start = memory + MARGIN_BYTES;
    memset(memory, MARGIN, n_all);
    memset(start, POISON, n_bytes);
#if defined(__SANITIZE_ADDRESS__)
    ASAN_POISON_MEMORY_REGION(memory, MARGIN_BYTES);
    ASAN_POISON_MEMORY_REGION(start + n_bytes, n_all - MARGIN_BYTES - n_bytes);
#endif
    allocations.emplace(reinterpret_cast<uintptr_t>(start), Allocation{start, n_bytes, home});
    used_bytes += room_taken;
    return start;
}

bool release(void *start) {
    const auto found = allocations.find(reinterpret_cast<uintptr_t>(start));
    if (found == allocations.end()) {
        return false;
    }
    char *memory = found->second.start - MARGIN_BYTES;
    const size_t n_bytes = found->second.n_bytes;
#if defined(__SANITIZE_ADDRESS__)
    ASAN_UNPOISON_MEMORY_REGION(memory, MARGIN_BYTES + footprint(n_bytes));
#endif
    // Who still reads it reads NaN.
    memset(memory + MARGIN_BYTES, POISON, n_bytes);
    used_bytes -= found->second.home == Home::Device ? n_bytes : 0;
    last_found = nullptr;
    allocations.erase(found);
    free(memory);
    return true;
}

const Allocation *find_allocation(const void *address, size_t n_bytes) {
    const auto at = reinterpret_cast<uintptr_t>(address);
    if (last_found != nullptr && holds(*last_found, at, n_bytes)) {
        return last_found;
    }
    auto found = allocations.upper_bound(at);
    if (found == allocations.begin()) {
        return nullptr;
    }
    const Allocation &allocation = (--found)->second;
    return holds(allocation, at, n_bytes) ? last_found = &allocation : nullptr;
}

Room room() { return {total_bytes, total_bytes - used_bytes}; }

void set_room(size_t total) { total_bytes = total > used_bytes ? total : used_bytes; }

std::string check_margins() {
    std::string found;
#if !defined(__SANITIZE_ADDRESS__)
    for (const auto &[_, allocation] : allocations) {
        unsigned char *end = reinterpret_cast<unsigned char *>(allocation.start) + allocation.n_bytes;
        unsigned char *before = reinterpret_cast<unsigned char *>(allocation.start) - MARGIN_BYTES;
        for (size_t i = 0; i < MARGIN_BYTES; ++i) {
            if (end[i] != MARGIN || before[i] != MARGIN) {
                const long long offset = end[i] != MARGIN ? static_cast<long long>(allocation.n_bytes + i)
                                                          : static_cast<long long>(i) - MARGIN_BYTES;
                found = "byte " + std::to_string(offset) + " of an allocation of " +
                        std::to_string(allocation.n_bytes) + " bytes was written";
                memset(end, MARGIN, MARGIN_BYTES);
                memset(before, MARGIN, MARGIN_BYTES);
                break;
            }
        }
    }
#endif
    return found;
}

} // namespace emulator
