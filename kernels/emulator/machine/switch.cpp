// From one fiber's stack to another's: 6 registers on x86-64, 20 on aarch64, and no system call.
#include "machine.h"

#include <cstdlib>
#include <cstring>
#include <sys/mman.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

extern "C" void emulator_switch(void **save, void *load);

#if defined(__x86_64__)
asm(R"(
.text
.globl emulator_switch
.hidden emulator_switch
.type emulator_switch, @function
emulator_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size emulator_switch, .-emulator_switch
)");
#elif defined(__aarch64__)
asm(R"(
.text
.globl emulator_switch
.hidden emulator_switch
.type emulator_switch, %function
emulator_switch:
    sub sp, sp, #160
    stp x19, x20, [sp]
    stp x21, x22, [sp, #16]
    stp x23, x24, [sp, #32]
    stp x25, x26, [sp, #48]
    stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    mov x9, sp
    str x9, [x0]
    mov sp, x1
    ldp x19, x20, [sp]
    ldp x21, x22, [sp, #16]
    ldp x23, x24, [sp, #32]
    ldp x25, x26, [sp, #48]
    ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    add sp, sp, #160
    ret
.size emulator_switch, .-emulator_switch
)");
#else
#error "the emulator switches stacks on x86-64 and aarch64"
#endif

namespace emulator {
namespace {

#if defined(__SANITIZE_ADDRESS__)
constexpr size_t STACK_BYTES = 512 << 10;
#else
constexpr size_t STACK_BYTES = 64 << 10;
#endif
constexpr size_t GUARD_BYTES = 64 << 10;

void *main_stack_pointer;
#if defined(__SANITIZE_ADDRESS__)
void *main_fake_stack;
const void *main_stack;
size_t main_stack_bytes;
#endif

char *map_stack() {
    void *memory = mmap(nullptr, GUARD_BYTES + STACK_BYTES, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED || mprotect(memory, GUARD_BYTES, PROT_NONE) != 0) {
        abort();
    }
    return static_cast<char *>(memory) + GUARD_BYTES;
}

void (*thread_entry)();

// The first function on a fiber's stack.
[[noreturn]] void begin() {
#if defined(__SANITIZE_ADDRESS__)
    const void **from = main_stack == nullptr ? &main_stack : nullptr;
    __sanitizer_finish_switch_fiber(nullptr, from, from != nullptr ? &main_stack_bytes : nullptr);
#endif
    thread_entry();
    __builtin_unreachable();
}

} // namespace

bool is_on_stack(const Thread &thread, const void *pointer) {
    return static_cast<size_t>(static_cast<const char *>(pointer) - thread.stack) < STACK_BYTES;
}

void prepare_stack(Thread &thread, void (*entry)()) {
    thread_entry = entry;
    if (thread.stack == nullptr) {
        thread.stack = map_stack();
    }
    thread.fake_stack = nullptr;
#if defined(__SANITIZE_ADDRESS__)
    // A thread that did not come to its end leaves its frames' red zones behind.
    if (!thread.finished) {
        ASAN_UNPOISON_MEMORY_REGION(thread.stack, STACK_BYTES);
    }
    // Another thread of the system may run this launch.
    main_stack = nullptr;
#endif
    // Lanes start at different cache sets: their frames are in use at the same time.
    char *top = thread.stack + STACK_BYTES - thread.lane * 320;
    void **slot = reinterpret_cast<void **>(top);
#if defined(__x86_64__)
    *--slot = nullptr; // as a call leaves it: 8 past a multiple of 16
    *--slot = reinterpret_cast<void *>(begin);
    slot -= 6;
    memset(slot, 0, 6 * sizeof(void *));
#else
    slot -= 20;
    memset(slot, 0, 20 * sizeof(void *));
    slot[11] = reinterpret_cast<void *>(begin); // x30, the link register
#endif
    thread.stack_pointer = slot;
}

// Null stands for the scheduler's own stack.
void switch_threads(Thread *from, Thread *to) {
    current = to;
    void **save = from != nullptr ? &from->stack_pointer : &main_stack_pointer;
    void *load = to != nullptr ? to->stack_pointer : main_stack_pointer;
#if defined(__SANITIZE_ADDRESS__)
    void **fake = from != nullptr ? &from->fake_stack : &main_fake_stack;
    const bool leaves = from != nullptr && from->finished;
    __sanitizer_start_switch_fiber(leaves ? nullptr : fake, to != nullptr ? to->stack : main_stack,
                                   to != nullptr ? STACK_BYTES : main_stack_bytes);
    emulator_switch(save, load);
    __sanitizer_finish_switch_fiber(*fake, nullptr, nullptr);
#else
    emulator_switch(save, load);
#endif
}

} // namespace emulator
