// Where threads wait for each other: the lanes of a warp, and the barriers of a block.
#include "machine.h"

namespace emulator {

void meet(Operation operation, uint32_t mask, void *argument, const char *name, Place place) {
    Thread &thread = *current;
    Warp &warp = *thread.warp;
    if ((mask >> thread.lane & 1) == 0) {
        fault("%s (%s:%u): lane %u is not in its own mask %08x", name, place.file_name(), place.line(),
              thread.lane, mask);
    }
    if ((mask & ~warp.live) != 0) {
        fault("%s (%s:%u): the mask %08x names lanes that ended or never were; there are %08x", name,
              place.file_name(), place.line(), mask, warp.live);
    }
    Meeting &meeting = warp.meetings[__builtin_ctz(mask)];
    if (meeting.arrived == 0) {
        meeting.operation = operation;
        meeting.mask = mask;
    } else if (meeting.mask != mask || meeting.operation != operation) {
        fault("%s (%s:%u): other lanes of the warp are in another operation or gave the mask %08x, not %08x",
              name, place.file_name(), place.line(), meeting.mask, mask);
    }
    warp.arguments[thread.lane] = argument;
    meeting.arrived |= 1u << thread.lane;
    if (meeting.arrived != mask) {
        wait_for(name, place);
        return;
    }
    meeting.arrived = 0;
    operation(warp.arguments, mask);
    warp.ready |= mask & ~(1u << thread.lane);
    if (warp.ready != 0) {
        block.ready_warps |= 1u << thread.id / LANES;
    }
}

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
    if (barrier.n_arrived < n_threads) {
        if (wait) {
            barrier.waiting.push_back(current->id);
            wait_for(name, place);
        }
        return;
    }
    barrier.n_arrived = 0;
    for (const unsigned waiting : barrier.waiting) {
        make_ready(waiting);
    }
    barrier.waiting.clear();
}

} // namespace emulator
