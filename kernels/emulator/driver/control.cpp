// What tests ask of the emulator beyond the driver's interface. Looked up by name from Rust.
#include <algorithm>
#include <cstring>

#include "driver.h"
#include "emulator/machine/memory.h"

#define CONTROL_API extern "C" __attribute__((visibility("default")))

namespace {

driver::PerThread<std::shared_ptr<driver::Session>> threads;

std::shared_ptr<driver::Session> &shared() {
    static auto shared = std::make_shared<driver::Session>();
    return shared;
}

// Copies as much of the text as there is room for; its whole length.
size_t copy_text(const std::string &text, char *out, size_t room) {
    memcpy(out, text.data(), std::min(room, text.size()));
    return text.size();
}

} // namespace

std::shared_ptr<driver::Session> driver::session() {
    const auto &own = threads.value();
    return own != nullptr ? own : shared();
}

// Of work that the calling thread submits from now on, and of threads that never called this.
CONTROL_API void emulator_set_schedule(int order, int copies) {
    const driver::Lock lock(driver::mutex());
    auto &own = threads.value();
    if (own == nullptr) {
        own = std::make_shared<driver::Session>();
    }
    const emulator::Schedule schedule{static_cast<emulator::Order>(order), static_cast<emulator::Copies>(copies)};
    own->schedule = schedule;
    shared()->schedule = schedule;
}

// The report of the last failed launch, which is forgotten together with the sticky error.
CONTROL_API size_t emulator_take_report(char *out, size_t room) {
    const driver::Lock lock(driver::mutex());
    std::string &report = driver::session()->report;
    const size_t length = copy_text(report, out, room);
    if (length > 0 && length <= room) {
        report.clear();
        driver::sticky = CUDA_SUCCESS;
    }
    return length;
}

CONTROL_API void emulator_set_device(int major, int minor, int driver_version, size_t memory_bytes, bool resets) {
    const driver::Lock lock(driver::mutex());
    driver::faults.resets = resets;
    driver::faults.capability[0] = major;
    driver::faults.capability[1] = minor;
    driver::faults.driver_version = driver_version;
    emulator::set_room(memory_bytes);
}

// Has a fault strike after `n_spared` occasions.
CONTROL_API void emulator_fail_after(int fault, uint64_t n_spared) {
    const driver::Lock lock(driver::mutex());
    driver::faults.countdown[fault] = n_spared + 1;
}

// Has no fault strike; whether one would have.
CONTROL_API bool emulator_spare() {
    const driver::Lock lock(driver::mutex());
    bool pending = false;
    for (uint64_t &left : driver::faults.countdown) {
        pending |= std::exchange(left, 0) > 0;
    }
    return pending;
}

// The calls since the last call of this function.
CONTROL_API void emulator_take_calls(driver::Calls *calls) {
    const driver::Lock lock(driver::mutex());
    *calls = std::exchange(driver::session()->calls, {});
}

CONTROL_API void *emulator_allocate(size_t n_bytes) {
    const driver::Lock lock(driver::mutex());
    return emulator::allocate(n_bytes);
}

CONTROL_API void emulator_release(void *memory) {
    const driver::Lock lock(driver::mutex());
    emulator::release(memory);
}

// Runs a kernel at once and apart from the driver; `shape` is the grid and the block. Whether it
// ran, for which the session has the report otherwise.
CONTROL_API int emulator_launch(const char *name, const unsigned (&shape)[6], unsigned shared_bytes,
                                const void *params, size_t param_bytes) {
    const driver::Lock lock(driver::mutex());
    const auto session = driver::session();
    const emulator::Kernel *kernel = emulator::find_kernel(name);
    if (kernel == nullptr || kernel->param_bytes != param_bytes) {
        session->report = "there is no kernel " + std::string(name) + " with such parameters";
        return 0;
    }
    const emulator::Shape whole{{shape[0], shape[1], shape[2]}, {shape[3], shape[4], shape[5]}, shared_bytes};
    return driver::run_now(*kernel, whole, params, *session);
}

CONTROL_API void emulator_set_cache(size_t n_bytes) {
    const driver::Lock lock(driver::mutex());
    emulator::set_cache_bytes(n_bytes);
}

namespace {

// As lib.rs reads it.
struct LaunchRecord {
    char kernel[128];
    uint32_t grid[3];
    uint32_t block[3];
    uint32_t shared_bytes;
    uint32_t n_sites;
    emulator::Totals totals;
};

} // namespace

// The numbers of the session's oldest launch; 0 where there is none. Without `sites` it stays.
CONTROL_API int emulator_take_counters(LaunchRecord *record, emulator::Site *sites) {
    const driver::Lock lock(driver::mutex());
    auto &counters = driver::session()->counters;
    if (counters.empty()) {
        return 0;
    }
    const emulator::Counters &first = counters.front();
    *record = {};
    first.kernel.copy(record->kernel, sizeof record->kernel - 1);
    const auto &[grid, block, shared_bytes] = first.shape;
    const uint32_t extents[] = {grid.x, grid.y, grid.z, block.x, block.y, block.z};
    memcpy(record->grid, extents, sizeof extents);
    record->shared_bytes = shared_bytes;
    record->n_sites = static_cast<uint32_t>(first.sites.size());
    record->totals = first.totals;
    if (sites != nullptr) {
        std::copy(first.sites.begin(), first.sites.end(), sites);
        counters.pop_front();
    }
    return 1;
}
