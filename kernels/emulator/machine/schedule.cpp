// Which thread runs next, and how a block and a grid come to their end.
#include "counters.h"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <utility>

namespace emulator {

Block block;
Thread *current;

namespace {

// What stays the same during a launch.
struct Launch {
    const Kernel *kernel;
    const void *params;
    Schedule schedule;
    uint64_t random;
    bool failed;
    std::string report;
};

Launch launch;
Thread threads[MAX_THREADS];
Warp warps[MAX_THREADS / LANES];

uint32_t next_random() {
    launch.random = launch.random * 6364136223846793005u + 1442695040888963407u;
    return launch.random >> 33;
}

// The next set bit after `last` in the launch's order, around the end.
unsigned next_bit(uint32_t set, unsigned last) {
    uint32_t rest;
    switch (launch.schedule.order) {
    case Order::Forward:
        rest = set & ~((uint64_t{2} << last) - 1);
        return __builtin_ctz(rest != 0 ? rest : set);
    case Order::Reverse:
        rest = set & ((uint32_t{1} << last) - 1);
        return 31 - __builtin_clz(rest != 0 ? rest : set);
    case Order::Random: {
        // The first one from a random place on: not each is equally likely, but each is possible.
        const unsigned start = next_random() % 32;
        rest = set >> start;
        return rest != 0 ? start + __builtin_ctz(rest) : __builtin_ctz(set);
    }
    }
    __builtin_unreachable();
}

// Takes the next thread to run; null where all wait.
Thread *pick() {
    if (block.ready_warps == 0) {
        return nullptr;
    }
    unsigned warp = block.last / LANES;
    // In random order a warp is now and then left before all its lanes wait.
    const bool stay = launch.schedule.order != Order::Random || next_random() % 16 != 0;
    if ((block.ready_warps >> warp & 1) == 0 || !stay) {
        warp = next_bit(block.ready_warps, warp);
    }
    Warp &chosen = warps[warp];
    const unsigned lane = next_bit(chosen.ready, block.last % LANES);
    chosen.ready &= ~(1u << lane);
    if (chosen.ready == 0) {
        block.ready_warps &= ~(1u << warp);
    }
    block.last = warp * LANES + lane;
    return &threads[block.last];
}

[[noreturn]] void thread_main() {
    launch.kernel->body(launch.params);
    Thread &thread = *current;
    if (thread.copies.size() > (thread.groups.empty() ? 0 : thread.groups.back())) {
        fault("a cp.async was never committed");
    }
    if (block.n_live == 1) {
        check_shared_margin();
    }
    thread.finished = true;
    thread.warp->live &= ~(1u << thread.lane);
    --block.n_live;
    if (COUNTED && thread.warp->live == 0) {
        flush_requests(*thread.warp);
    }
    switch_threads(&thread, pick());
    __builtin_unreachable();
}

void reset_thread(unsigned id) {
    Thread &thread = threads[id];
    const dim3 &shape = block.shape;
    thread.index = {id % shape.x, id / shape.x % shape.y, id / shape.x / shape.y};
    thread.id = id;
    thread.lane = id % LANES;
    thread.warp = &warps[id / LANES];
    thread.warp->live |= 1u << thread.lane;
    prepare_stack(thread, thread_main);
    thread.finished = false;
    thread.operation = nullptr;
    thread.copies.clear();
    thread.groups.clear();
    thread.n_groups_landed = 0;
    make_ready(id);
}

std::string format_list(const char *format, va_list list) {
    char text[1024];
    vsnprintf(text, sizeof text, format, list);
    return text;
}

std::string formatted(const char *format, ...) {
    va_list list;
    va_start(list, format);
    std::string text = format_list(format, list);
    va_end(list);
    return text;
}

void fail(const std::string &what) {
    launch.report = formatted("kernel %s, block (%u, %u, %u)", launch.kernel->name, block.index.x,
                              block.index.y, block.index.z);
    if (current != nullptr) {
        const uint3 &thread = current->index;
        launch.report += formatted(", thread (%u, %u, %u)", thread.x, thread.y, thread.z);
    }
    launch.report += ": " + what;
    launch.failed = true;
}

// "threads 0 to 31 in __syncthreads (a.cu:12)", for every run of threads that wait alike.
std::string who_waits() {
    std::string text;
    for (unsigned first = 0; first < block.n_threads;) {
        const Thread &thread = threads[first];
        unsigned end = first + 1;
        const auto alike = [&](const Thread &other) {
            return other.finished == thread.finished &&
                   (thread.finished || (other.operation == thread.operation &&
                                        other.place.line() == thread.place.line()));
        };
        while (end < block.n_threads && alike(threads[end])) {
            ++end;
        }
        text += text.empty() ? "" : "; ";
        text += end - first == 1 ? formatted("thread %u ", first)
                                 : formatted("threads %u to %u ", first, end - 1);
        text += thread.finished ? "ended"
                                : formatted("in %s (%s:%u)", thread.operation, thread.place.file_name(),
                                            thread.place.line());
        first = end;
    }
    return text;
}

void run_block(unsigned index) {
    const dim3 &grid = block.grid;
    block.index = {index % grid.x, index / grid.x % grid.y, index / grid.x / grid.y};
    block.n_live = block.n_threads;
    block.ready_warps = 0;
    // The lane before the first: the last of the first warp, or the first of the last warp.
    const bool backwards = launch.schedule.order == Order::Reverse;
    block.last = backwards ? (block.n_threads - 1) / LANES * LANES : LANES - 1;
    for (Barrier &barrier : block.barriers) {
        barrier = {};
    }
    poison_shared();
    if (COUNTED) {
        start_block_races();
    }
    for (unsigned warp = 0; warp * LANES < block.n_threads; ++warp) {
        warps[warp] = {};
        if (COUNTED) {
            order_warp(warps[warp]);
        }
    }
    for (unsigned id = 0; id < block.n_threads; ++id) {
        reset_thread(id);
    }
    // Threads switch among themselves; they come back when all have ended or none can go on.
    switch_threads(nullptr, pick());
    if (!launch.failed && block.n_live > 0) {
        fail("deadlock: " + who_waits());
    }
}

// Sorted, because the order in which files register is not fixed.
std::map<std::string, Kernel> &kernels() {
    static std::map<std::string, Kernel> kernels;
    return kernels;
}

} // namespace

Registration::Registration(const Kernel &kernel) {
    if (!kernels().emplace(kernel.name, kernel).second) {
        fprintf(stderr, "emulator: there are two kernels called %s\n", kernel.name);
        abort();
    }
}

const Kernel *find_kernel(const std::string &name) {
    const auto found = kernels().find(name);
    return found != kernels().end() ? &found->second : nullptr;
}

void make_ready(unsigned id) {
    warps[id / LANES].ready |= 1u << id % LANES;
    block.ready_warps |= 1u << id / LANES;
}

bool is_parameter(const void *pointer) {
    const auto *start = static_cast<const char *>(launch.params);
    return static_cast<size_t>(static_cast<const char *>(pointer) - start) < launch.kernel->param_bytes;
}

Copies schedule_copies() { return launch.schedule.copies; }

void wait_for(const char *operation, Place place) {
    Thread &thread = *current;
    thread.operation = operation;
    thread.place = place;
    switch_threads(&thread, pick());
}

void fault(const char *format, ...) {
    va_list list;
    va_start(list, format);
    const std::string what = format_list(format, list);
    va_end(list);
    fail(what);
    Thread *thread = current;
    switch_threads(thread, nullptr);
    __builtin_unreachable();
}

std::string run(const Kernel &kernel, const Shape &shape, const void *params, Schedule schedule) {
    launch = {&kernel, params, schedule, 0x853c49e6748fea9b, false, {}};
    block.shape = shape.block;
    block.grid = shape.grid;
    block.n_threads = shape.block.x * shape.block.y * shape.block.z;
    block.shared_bytes = shape.shared_bytes;
    find_static_shared();
    const unsigned n_blocks = shape.grid.x * shape.grid.y * shape.grid.z;
    for (unsigned i = 0; i < n_blocks && !launch.failed; ++i) {
        run_block(schedule.order == Order::Reverse ? n_blocks - 1 - i : i);
    }
    current = nullptr;
    return std::move(launch.report);
}

} // namespace emulator
