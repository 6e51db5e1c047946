// A barrier of Hopper stands in eight bytes of shared memory. Here they hold a mark, so that one
// that was never made is noticed; its state is kept beside.
#include "hopper.h"

#include "counters.h"

#include <cstring>
#include <deque>
#include <map>

namespace emulator {
namespace {

constexpr uint64_t MARK = 0x6d62617272696572; // "mbarrier"

struct BulkCopy {
    char *target;
    const void *source;
    unsigned n_bytes;
};

struct Phase {
    unsigned n_arrivals = 0; // of each phase
    unsigned n_missing = 0;  // in this phase
    int64_t n_bytes = 0;     // announced and not yet landed
    unsigned parity = 0;     // of this phase
    std::vector<unsigned> waiting;
    Knowledge known[2]; // by parity: of the phase before, and of this one
    std::vector<BulkCopy> copies; // under way
};

std::map<uint32_t, Phase> phases;

struct Pending {
    WarpgroupProduct product;
    unsigned group;
};

struct Pipeline {
    std::deque<Pending> products;
    unsigned n_committed = 0;
};

Pipeline pipelines[MAX_THREADS];

Phase &find(uint32_t barrier, const char *name) {
    uint64_t mark;
    memcpy(&mark, shared_pointer(barrier, sizeof mark, sizeof mark, name), sizeof mark);
    if (mark != MARK) {
        fault("%s: there is no barrier at %u", name, barrier);
    }
    return phases[barrier];
}

void end_if_complete(Phase &phase) {
    if (phase.n_missing > 0 || phase.n_bytes != 0) {
        return;
    }
    phase.n_missing = phase.n_arrivals;
    phase.parity ^= 1;
    for (const unsigned thread : phase.waiting) {
        make_ready(thread);
    }
    phase.waiting.clear();
}

void land(Phase &phase) {
    for (const BulkCopy &copy : phase.copies) {
        memcpy(copy.target, copy.source, copy.n_bytes);
        phase.n_bytes -= copy.n_bytes;
    }
    phase.copies.clear();
    end_if_complete(phase);
}

} // namespace

void phase_init(uint32_t barrier, unsigned n_arrivals) {
    memcpy(shared_pointer(barrier, sizeof MARK, sizeof MARK, "mbarrier.init"), &MARK, sizeof MARK);
    Phase fresh;
    fresh.n_arrivals = fresh.n_missing = n_arrivals;
    phases[barrier] = fresh;
}

void phase_arrive(uint32_t barrier, unsigned n_bytes) {
    Phase &phase = find(barrier, "mbarrier.arrive");
    if (phase.n_missing == 0) {
        fault("mbarrier.arrive: more than %u threads arrive in a phase", phase.n_arrivals);
    }
    phase.n_bytes += n_bytes;
    --phase.n_missing;
    if (COUNTED) {
        note_arrival(*current, phase.known[phase.parity]);
    }
    end_if_complete(phase);
}

void phase_wait(uint32_t barrier, unsigned parity, Place place) {
    Phase &phase = find(barrier, "mbarrier.try_wait");
    if (phase.parity == parity && !phase.copies.empty()) {
        land(phase);
    }
    while (phase.parity == parity) {
        phase.waiting.push_back(current->id);
        wait_for("mbarrier.try_wait", place);
    }
    if (COUNTED) {
        learn(*current, phase.known[parity]);
    }
}

void copy_bulk(uint32_t target, const void *source, unsigned n_bytes, uint32_t barrier) {
    if (n_bytes % 16 != 0 || reinterpret_cast<uintptr_t>(source) % 16 != 0) {
        fault("cp.async.bulk: %u bytes from %p, of which one is no multiple of 16", n_bytes, source);
    }
    Phase &phase = find(barrier, "cp.async.bulk");
    if (COUNTED) {
        // As many accesses as it has sectors, where they are whole.
        const unsigned step = (reinterpret_cast<uintptr_t>(source) | n_bytes) % 32 == 0 ? 32 : 16;
        for (unsigned offset = 0; offset < n_bytes; offset += step) {
            note_access(*current, static_cast<const char *>(source) + offset, step, Access::CopyLoad,
                        __builtin_return_address(0));
        }
    }
    phase.copies.push_back({shared_pointer(target, n_bytes, 16, "cp.async.bulk"), source, n_bytes});
    // Where a thread waits already, now is when it is waited for.
    if (schedule_copies() == Copies::Eager || !phase.waiting.empty()) {
        land(phase);
    }
}

void product_forget() { pipelines[current->id] = {}; }

void product_start(const WarpgroupProduct &product) {
    Pipeline &pipeline = pipelines[current->id];
    pipeline.products.push_back({product, pipeline.n_committed});
}

void product_commit() { ++pipelines[current->id].n_committed; }

bool product_take(unsigned n_under_way, WarpgroupProduct &product) {
    Pipeline &pipeline = pipelines[current->id];
    if (pipeline.products.empty() || pipeline.products.front().group + n_under_way >= pipeline.n_committed) {
        return false;
    }
    product = pipeline.products.front().product;
    pipeline.products.pop_front();
    return true;
}

} // namespace emulator
