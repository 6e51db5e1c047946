// The emulated multiprocessor: one block at a time, each of its threads a fiber.
//
// A thread runs until it has to wait for others: at a barrier, or where the lanes of a warp meet
// (shuffles, votes, mma, ldmatrix). A warp runs until all its lanes wait, and only then another
// one does: that lets warps drift as far apart as the barriers allow, which is what shows a
// barrier that is missing. Launches are serialised by the driver's lock, so the machine is one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <source_location>
#include <string>
#include <vector>

#include <vector_types.h>

namespace emulator {

constexpr unsigned LANES = 32;
constexpr unsigned MAX_THREADS = 1024;
constexpr unsigned MAX_SHARED_BYTES = 227 << 10;

// Where in a kernel's source something is called.
using Place = std::source_location;

// What kind of instruction something is.
enum class Class { Mma, Ldmatrix, Exchange, Warp, Barrier };

// An operation that lanes meet for. It gets what each lane brought, and the lanes that take part.
struct Operation {
    const char *name;
    Class instruction;
    void (*run)(void **arguments, uint32_t mask);
};

// Lanes on their way to one operation.
struct Meeting {
    const Operation *operation;
    uint32_t mask;
    uint32_t arrived = 0;
};

struct Warp {
    Meeting meetings[LANES]; // by the lowest lane of the mask
    void *arguments[LANES];
    uint32_t live = 0;
    uint32_t ready = 0;
    // Counted builds: lanes that have arrived at a barrier, and when all lanes met last.
    unsigned n_at_barrier = 0;
    uint32_t epoch = 0;
};

// One asynchronous copy: bytes from global memory, then zeros.
struct Copy {
    char *target;
    const char *source;
    unsigned n_bytes;
    unsigned n_zeros;
};

struct Thread {
    uint3 index;
    unsigned id;
    unsigned lane;
    Warp *warp;
    bool finished;
    const char *operation; // what it waits for
    Place place;
    void *stack_pointer;
    char *stack; // its lowest byte
    void *fake_stack; // of the address sanitizer
    std::vector<Copy> copies;
    std::vector<size_t> groups; // where each committed group ends in `copies`
    size_t n_groups_landed;
    const void *site; // of the call that is under way, in counted builds
};

struct Barrier {
    std::vector<unsigned> waiting;
    unsigned n_arrived = 0;
    unsigned n_expected = 0;
    uint32_t waiting_warps = 0;
    uint32_t arrived_warps = 0;
};

constexpr unsigned N_BARRIERS = 16;

struct Block {
    uint3 index;
    dim3 shape;
    dim3 grid;
    char *shared; // the dynamic shared memory
    unsigned shared_bytes;
    unsigned n_threads;
    unsigned n_live;
    uint32_t ready_warps;
    unsigned last; // the thread that ran last
    Barrier barriers[N_BARRIERS];
};

extern Block block;
extern Thread *current;

enum class Order { Forward, Reverse, Random };

// When an asynchronous copy lands: as soon as it is issued, or only when it is waited for. A
// real one lands at any time between.
enum class Copies { Eager, Lazy };

struct Schedule {
    Order order = Order::Forward;
    Copies copies = Copies::Lazy;
};

// A kernel of this library.
struct Kernel {
    const char *name;
    void (*body)(const void *params);
    size_t param_bytes;
    unsigned max_threads;
};

// Kernels by name; null where there is none.
const Kernel *find_kernel(const std::string &name);

// A kernel's own entry, made before main.
struct Registration {
    explicit Registration(const Kernel &kernel);
};

struct Shape {
    dim3 grid;
    dim3 block;
    unsigned shared_bytes;
};

// Runs a grid. Empty, or which kernel, block and thread failed, and why.
std::string run(const Kernel &kernel, const Shape &shape, const void *params, Schedule schedule);

// Ends the launch with an error: the calling thread did what hardware does not allow.
[[noreturn]] void fault(const char *format, ...) __attribute__((format(printf, 1, 2)));

// The lanes of `mask` meet; the last one to arrive runs the operation for all.
void meet(const Operation &operation, uint32_t mask, void *argument, Place place);

// Barrier `id` for `n_threads`; 0 stands for the whole block. Without `wait` the thread only
// counts as arrived.
void barrier(unsigned id, unsigned n_threads, bool wait, const char *name, Place place);

// The shared window: static arrays first, dynamic memory from DYNAMIC_SHARED on.
constexpr uint32_t DYNAMIC_SHARED = 1 << 20;
uint32_t shared_address(const void *pointer);
char *shared_pointer(uint32_t address, unsigned n_bytes, unsigned alignment, const char *name);
bool find_shared(const void *pointer, unsigned n_bytes, uint32_t &address);
// Where this thread of the system has its static arrays.
void find_static_shared();
void poison_shared();
// Faults where something was written past the end of the dynamic memory.
void check_shared_margin();

// Asynchronous copies of the current thread.
void copy_async(uint32_t target, const void *source, unsigned size, unsigned n_bytes);
void copy_commit();
void copy_wait(unsigned n_under_way);
Copies schedule_copies();

// For the scheduler.
void make_ready(unsigned id);
void wait_for(const char *operation, Place place);
void switch_threads(Thread *from, Thread *to);
bool is_on_stack(const Thread &thread, const void *pointer);
bool is_parameter(const void *pointer);
void prepare_stack(Thread &thread, void (*entry)());

} // namespace emulator
