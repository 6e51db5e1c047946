// Global memory: the allocations of the emulated device, on the host's heap.
#pragma once

#include <cstddef>
#include <string>

namespace emulator {

// Where an allocation lies: pinned memory of the host is at the same address for the device, and
// takes none of its room.
enum class Home { Device, Host };

struct Allocation {
    char *start;
    size_t n_bytes;
    Home home;
};

// What the device has in all, and what is left of it.
struct Room {
    size_t total;
    size_t free;
};

// Memory filled with 0xff, aligned to 256 bytes, between margins that nothing may touch; null
// where there is no room.
void *allocate(size_t n_bytes, Home home = Home::Device);

// False where no allocation begins there.
bool release(void *start);

// The allocation that holds `n_bytes` from `address` on; null where none does.
const Allocation *find_allocation(const void *address, size_t n_bytes);

Room room();
void set_room(size_t total);

// What was written past an allocation's end since the last look; empty where nothing was.
std::string check_margins();

} // namespace emulator
