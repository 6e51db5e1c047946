// What tests ask of the emulator beyond the driver's interface. Looked up by name from Rust.
#include <cstring>

#include "driver.h"
#include "emulator/machine/memory.h"

#define CONTROL_API extern "C" __attribute__((visibility("default")))

namespace {

thread_local std::shared_ptr<driver::Session> own;

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

std::shared_ptr<driver::Session> driver::session() { return own != nullptr ? own : shared(); }

// Of work that the calling thread submits from now on, and of threads that never called this.
CONTROL_API void emulator_set_schedule(int order, int copies) {
    const driver::Lock lock(driver::mutex());
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
    if (length <= room) {
        report.clear();
        driver::sticky = CUDA_SUCCESS;
    }
    return length;
}

CONTROL_API void emulator_set_device(int major, int minor, int driver_version, size_t memory_bytes) {
    const driver::Lock lock(driver::mutex());
    driver::faults.capability[0] = major;
    driver::faults.capability[1] = minor;
    driver::faults.driver_version = driver_version;
    emulator::set_room(memory_bytes);
}

// 0: the next allocation, 1: the next launch, 2: the end of the next capture.
CONTROL_API void emulator_fail_next(int what) {
    const driver::Lock lock(driver::mutex());
    bool *const flags[] = {&driver::faults.allocation, &driver::faults.launch, &driver::faults.capture};
    *flags[what] = true;
}
