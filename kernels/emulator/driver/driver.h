// The stand-in for NVIDIA's driver: the objects behind its handles.
//
// Nothing runs when it is asked for. Work waits in its stream until something waits for the
// stream, an event or the device, so a program that forgets to wait sees that nothing happened.
// Streams are drained one after another in the order of the schedule, as far as events allow.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <pthread.h>
#include <string>
#include <utility>
#include <vector>

// The plain names stand for the newest versions of the functions; here each is defined under the
// name that is looked up.
#define __CUDA_API_VERSION_INTERNAL
#include <cuda.h>

#include "emulator/machine/counters.h"

#define DRIVER_API extern "C" __attribute__((visibility("default"))) CUresult CUDAAPI

namespace driver {

using emulator::Schedule;

// A value of each thread of the program. No thread-local variable: those of this library are the
// emulated device's shared memory.
template <typename T>
class PerThread {
  public:
    PerThread() {
        pthread_key_create(&key, [](void *value) { delete static_cast<T *>(value); });
    }

    T &value() {
        if (pthread_getspecific(key) == nullptr) {
            pthread_setspecific(key, new T());
        }
        return *static_cast<T *>(pthread_getspecific(key));
    }

  private:
    pthread_key_t key;
};

// Calls of the driver by what they cost a program.
struct Calls {
    uint64_t launches;       // of kernels, those that are captured too
    uint64_t graph_launches;
    uint64_t rounds;         // of loops in graphs
    uint64_t waits;          // until the device has done something
    uint64_t allocations;    // of the device's memory or of pinned memory
};

// What a thread of the program set up, and what its work left behind.
struct Session {
    Calls calls = {};
    Schedule schedule;
    std::string report;
    std::deque<emulator::Counters> counters; // of counted builds, oldest first
};

// The calling thread's session: its own, or the one that all threads without share.
std::shared_ptr<Session> session();

enum class Kind { Launch, Copy, Fill, Record, Wait, Host, Free, Graph, Loop };

struct Graph;
struct Loop;

// A piece of work: what it is, for comparing graphs, and how it is done.
struct Work {
    Kind kind;
    std::string name; // of a kernel
    std::function<CUresult()> run;
    uint64_t order = 0; // among the work of all streams; a graph's nodes go by it, too
    std::shared_ptr<Loop> loop = nullptr; // of Kind::Loop, which has no function
};

// What conditional nodes go by.
struct Condition {
    uint64_t handle;
    unsigned at_launch; // its value when the graph is launched, if it is given one then
    bool is_set_at_launch;
};

struct Graph {
    std::vector<Work> nodes; // in the order in which they are done
    std::vector<Condition> conditions;
};

// A point in a stream's work.
struct Mark {
    CUstream stream;
    bool reached = false;
    double milliseconds = 0;
};

} // namespace driver

struct CUstream_st {
    bool blocking = true; // waits for the default stream and the other way around
    bool hangs = false;   // what is first in the queue never ends
    std::deque<driver::Work> queue;
    uint64_t order = 0;   // of the work that was begun last
    std::shared_ptr<driver::Graph> capture; // while work is captured
    CUgraph captured_to = nullptr;          // the graph that was there before
    bool capture_origin = false;
    bool capture_invalid = false;
    CUstreamCaptureMode capture_mode = CU_STREAM_CAPTURE_MODE_GLOBAL;
};

struct CUevent_st {
    std::shared_ptr<driver::Mark> mark;           // where it was recorded last
    std::shared_ptr<driver::Graph> captured_into; // where that was in a capture
};

struct CUgraph_st {
    std::shared_ptr<driver::Graph> graph;
};

// A node that repeats its body while its condition is not zero.
struct driver::Loop {
    uint64_t condition;
    CUgraph_st body;
    CUgraph given_out = &body; // the array of graphs that the node's maker gets
};

struct CUgraphExec_st {
    std::shared_ptr<driver::Graph> graph;
};

namespace driver {

// One lock for everything: a launch has the machine to itself.
using Lock = std::lock_guard<std::recursive_mutex>;
std::recursive_mutex &mutex();

// What a test may have fail; numbered as in lib.rs.
enum class Fault {
    Allocation,       // of device memory, for want of it
    PinnedAllocation, // of the host's memory, for want of it
    Launch,           // when it is asked for
    Trap,             // a launch, alone or in a graph, when its turn comes
    Hang,             // a launch or a graph that never ends
    Capture,          // its end
    CaptureMemory,    // its end, for want of memory
    Instantiation,    // of a graph, for want of memory
    Condition,        // of a graph, which this driver does not have
    Count
};

// Each fault that was asked for strikes once and is then forgotten.
struct Faults {
    // Occasions until it strikes, this one included; 0 where it was not asked for.
    uint64_t countdown[static_cast<size_t>(Fault::Count)] = {};
    bool resets = true; // whether a new context works after a fault
    int driver_version = 13000;
    int capability[2] = {8, 0};

    // Whether the fault strikes on this occasion.
    bool strikes(Fault fault) {
        uint64_t &left = countdown[static_cast<size_t>(fault)];
        return left > 0 && --left == 0;
    }
};
extern Faults faults;

// The error that a kernel left behind; every later call returns it.
extern CUresult sticky;

// All streams; the default one comes first.
std::vector<CUstream> &streams();

// The default stream goes by several handles.
CUstream resolve(CUstream stream);
bool is_stream(CUstream stream);

// A number that no work has yet.
uint64_t take_order();

// Puts work on a stream, or into the graph it is captured into.
CUresult submit(CUstream stream, Kind kind, std::string name, std::function<CUresult()> run);

// Does all work of a stream that was asked for before `before`.
CUresult drain(CUstream stream, uint64_t before = UINT64_MAX);

// Does the next work of a stream, and what it waits for. Whether that ends.
bool run_next(CUstream stream);
CUresult drain_until(const Mark &mark);
CUresult drain_all();

// Whether a call that may not happen during a capture happens during one; that ends the capture.
bool breaks_capture();

// Runs a kernel at once. False where it failed; the session then has the report.
bool run_now(const emulator::Kernel &kernel, const emulator::Shape &shape, const void *params, Session &session);

// Whether memory of the host was allocated by the driver: copies from and to it do not wait.
bool is_pinned(const void *memory, size_t n_bytes);

} // namespace driver

// Every entry point begins by this: one thread at a time, and nothing goes after a fault.
#define ENTER                                                                                      \
    const driver::Lock lock(driver::mutex());                                                      \
    if (driver::sticky != CUDA_SUCCESS) {                                                          \
        return driver::sticky;                                                                     \
    }
