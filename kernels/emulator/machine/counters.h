// What a launch did, counted without a clock.
//
// Only the counted build does this: there the compiler calls a function before each memory access
// of a kernel (hooks.cpp). The accesses of a warp's lanes from one point where all of them meet to
// the next are put together into requests, as a load-store unit sees them (requests.cpp): the
// n-th access of each lane by one instruction belongs to the n-th request.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "access.h"

namespace emulator {

// Numbers of one launch, or of one instruction of it. Requests are those of a warp.
struct Traffic {
    uint64_t requests = 0;
    uint64_t bytes = 0;            // distinct ones of each request
    uint64_t sectors = 0;          // of 32 bytes of global memory, touched by each request
    uint64_t least_sectors = 0;    // that would hold the same bytes
    uint64_t wavefronts = 0;       // passes over the 32 banks of shared memory
    uint64_t least_wavefronts = 0; // without bank conflicts

    void add(const Traffic &other);
};

struct Site {
    uint64_t offset; // of the instruction after it in the library
    uint32_t access;
    uint32_t shared; // not 0: in shared memory
    uint32_t width;  // bytes a lane
    uint32_t padding;
    Traffic traffic;
};

// Requests by the width of what a lane accesses: 1, 2, 4, 8 and 16 bytes.
constexpr unsigned N_WIDTHS = 5;

struct Totals {
    uint64_t global_loads[N_WIDTHS];
    uint64_t global_stores[N_WIDTHS];
    uint64_t shared_loads[N_WIDTHS];
    uint64_t shared_stores[N_WIDTHS];
    uint64_t atomics;
    uint64_t async_copies;
    uint64_t mma;
    uint64_t ldmatrix;
    uint64_t exchanges;
    uint64_t barriers;     // a warp's arrivals
    uint64_t memory_read;    // bytes that were not in the second-level cache
    uint64_t memory_written; // bytes that it wrote back
    Traffic read;          // of global memory
    Traffic written;       // of global memory, atomics included
    Traffic shared;
};

struct Counters {
    std::string kernel;
    Shape shape;
    Totals totals;
    std::vector<Site> sites;
};

// Around a launch and its blocks.
void start_counting();
Counters finish_counting(const Kernel &kernel, const Shape &shape);

// What all lanes of a warp did, once, and what a warp did alone.
void note_operation(Class instruction);

// All live lanes of the warp have met, or its last lane has ended.
void flush_requests(Warp &warp);

// The second-level cache of the model, in bytes.
void set_cache_bytes(size_t n_bytes);
void clear_cache();
void touch_cache(uint64_t sector, bool write, Totals &totals);
void write_back_cache(Totals &totals);

// Races in shared memory: accesses of two threads, one of them a write, that no barrier orders.
void start_block_races();
void check_race(const Thread &thread, uint32_t shared_address, unsigned n_bytes, Access access, uint32_t site);
void order_warp(Warp &warp);
void order_warps(uint32_t waiting, uint32_t arrived);
// What is known of all warps' accesses where barriers are not met at one time: arrivals add to it,
// those that wait learn of it.
struct Knowledge {
    uint32_t times[MAX_THREADS / LANES] = {};
};
void note_arrival(const Thread &thread, Knowledge &knowledge);
void learn(const Thread &thread, const Knowledge &knowledge);

// Instructions by number; their traffic of this launch; and a text that the report's reader
// resolves to a place in the source.
uint32_t site_number(const void *site, Access access, bool shared, unsigned width);
Site &site_at(uint32_t number);
std::string site_text(uint32_t number);
void clear_sites();
std::vector<Site> busy_sites();

// One access of a lane; the warp's are put together when it meets next.
struct Event {
    uint64_t address;
    uint32_t site;
};
void add_event(const Thread &thread, Event event);

} // namespace emulator
