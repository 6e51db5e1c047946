// A lane's access: where it goes, whether it may, and which instruction makes it.
#include "counters.h"
#include "memory.h"

#include <cstdio>
#include <unordered_map>

extern "C" char __ehdr_start[] __attribute__((visibility("hidden")));
extern "C" char _end[] __attribute__((visibility("hidden")));

namespace emulator {
namespace {

std::vector<Site> sites;
std::unordered_map<uint64_t, uint32_t> site_numbers;

struct Remembered {
    uint64_t key;
    uint32_t number;
};

Remembered recent[4096];

} // namespace

Site &site_at(uint32_t number) { return sites[number]; }

void clear_sites() {
    for (Site &site : sites) {
        site.traffic = {};
    }
}

std::vector<Site> busy_sites() {
    std::vector<Site> busy;
    for (const Site &site : sites) {
        if (site.traffic.requests > 0) {
            busy.push_back(site);
        }
    }
    return busy;
}

uint32_t site_number(const void *site, Access access, bool shared, unsigned width) {
    const uint64_t offset = static_cast<uint64_t>(static_cast<const char *>(site) - __ehdr_start);
    // One instruction may reach both spaces through a generic pointer.
    const uint64_t key = offset << 16 | static_cast<uint64_t>(access) << 8 | width << 1 | shared;
    // Instructions come again soon: most are found without the map.
    Remembered &remembered = recent[key * 0x9e3779b97f4a7c15 >> 52];
    if (remembered.key != key) {
        const auto [found, fresh] = site_numbers.try_emplace(key, sites.size());
        if (fresh) {
            sites.push_back({offset, static_cast<uint32_t>(access), shared, width, 0, {}});
        }
        remembered = {key, found->second};
    }
    return remembered.number;
}

std::string site_text(uint32_t number) {
    char text[32];
    snprintf(text, sizeof text, "{site 0x%llx}", static_cast<unsigned long long>(sites[number].offset));
    return text;
}

void note_access(Thread &thread, const void *address, unsigned n_bytes, Access access, const void *site) {
    const auto *byte = static_cast<const char *>(address);
    if (is_on_stack(thread, byte)) {
        return;
    }
    uint32_t shared = 0;
    const bool is_shared = find_shared(byte, n_bytes, shared);
    const bool loads = access == Access::Load || access == Access::CopyLoad;
    if (!is_shared && loads && byte >= __ehdr_start && byte < _end) {
        return; // a table of constants, or the emulator's own
    }
    const uint32_t number = site_number(site, access, is_shared, n_bytes);
    if (!is_shared && find_allocation(address, n_bytes) == nullptr) {
        if (loads && is_parameter(byte)) {
            return;
        }
        fault("out of bounds: a %s of %u bytes at %p, which no allocation holds, by %s", loads ? "load" : "store",
              n_bytes, address, site_text(number).c_str());
    }
    // A copy may read 12 of its 16 bytes, which are words.
    const unsigned alignment = n_bytes & (0u - n_bytes);
    if (reinterpret_cast<uintptr_t>(address) % alignment != 0) {
        fault("misaligned: %p is not a multiple of %u bytes, by %s", address, alignment, site_text(number).c_str());
    }
    if (is_shared) {
        check_race(thread, shared, n_bytes, access, number);
    }
    add_event(thread, {is_shared ? shared : reinterpret_cast<uint64_t>(address), number});
}

void note_landing(const void *shared, unsigned n_bytes, const void *site) {
    uint32_t address = 0;
    if (find_shared(shared, n_bytes, address)) {
        check_race(*current, address, n_bytes, Access::CopyStore, site_number(site, Access::CopyStore, true, n_bytes));
    }
}

} // namespace emulator
