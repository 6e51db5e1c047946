// Where threads wait for each other: the lanes of a warp, and the barriers of a block.
#include "counters.h"

namespace emulator {

void meet(const Operation &operation, uint32_t mask, void *argument, Place place) {
    Thread &thread = *current;
    Warp &warp = *thread.warp;
    if ((mask >> thread.lane & 1) == 0) {
        fault("%s (%s:%u): lane %u is not in its own mask %08x", operation.name, place.file_name(), place.line(),
              thread.lane, mask);
    }
    if ((mask & ~warp.live) != 0) {
        fault("%s (%s:%u): the mask %08x names lanes that ended or never were; there are %08x", operation.name,
              place.file_name(), place.line(), mask, warp.live);
    }
    Meeting &meeting = warp.meetings[__builtin_ctz(mask)];
    if (meeting.arrived == 0) {
        meeting.operation = &operation;
        meeting.mask = mask;
    } else if (meeting.mask != mask || meeting.operation != &operation) {
        fault("%s (%s:%u): lanes of the warp diverge: others are in %s; the masks are %08x and %08x",
              operation.name, place.file_name(), place.line(), meeting.operation->name, mask, meeting.mask);
    }
    warp.arguments[thread.lane] = argument;
    if (COUNTED) {
        thread.site = __builtin_return_address(0);
    }
    meeting.arrived |= 1u << thread.lane;
    if (meeting.arrived != mask) {
        wait_for(operation.name, place);
        return;
    }
    meeting.arrived = 0;
    operation.run(warp.arguments, mask);
    if (COUNTED) {
        note_operation(operation.instruction);
        if (mask == warp.live) {
            flush_requests(warp);
        }
    }
    warp.ready |= mask & ~(1u << thread.lane);
    if (warp.ready != 0) {
        block.ready_warps |= 1u << thread.id / LANES;
    }
}

namespace {

void arrive(Barrier &barrier, bool waits) {
    Warp &warp = *current->warp;
    const uint32_t bit = 1u << current->id / LANES;
    barrier.arrived_warps |= bit;
    barrier.waiting_warps |= waits ? bit : 0;
    if (++warp.n_at_barrier == static_cast<unsigned>(__builtin_popcount(warp.live))) {
        warp.n_at_barrier = 0;
        note_operation(Class::Barrier);
        flush_requests(warp);
    }
}

} // namespace

void barrier(unsigned id, unsigned n_threads, bool wait, const char *name, Place place) {
    if (id >= N_BARRIERS) {
        fault("%s: there is no barrier %u", name, id);
    }
    if (n_threads == 0) {
        n_threads = block.n_threads;
        if (block.n_live < n_threads) {
            fault("%s (%s:%u): %u threads of the block have ended", name, place.file_name(), place.line(),
                  n_threads - block.n_live);
        }
    } else if (n_threads % LANES != 0 || n_threads > block.n_threads) {
        fault("%s: barrier %u cannot wait for %u threads", name, id, n_threads);
    }
    Barrier &barrier = block.barriers[id];
    if (barrier.n_arrived > 0 && barrier.n_expected != n_threads) {
        fault("%s: barrier %u waits for %u threads here and for %u elsewhere", name, id, n_threads,
              barrier.n_expected);
    }
    barrier.n_expected = n_threads;
    ++barrier.n_arrived;
    if (COUNTED) {
        arrive(barrier, wait);
    }
    if (barrier.n_arrived < n_threads) {
        if (wait) {
            barrier.waiting.push_back(current->id);
            wait_for(name, place);
        }
        return;
    }
    if (COUNTED) {
        order_warps(barrier.waiting_warps, barrier.arrived_warps);
    }
    barrier.n_arrived = 0;
    barrier.waiting_warps = barrier.arrived_warps = 0;
    for (const unsigned waiting : barrier.waiting) {
        make_ready(waiting);
    }
    barrier.waiting.clear();
}

} // namespace emulator
