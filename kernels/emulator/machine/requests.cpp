// From the accesses of lanes to the requests of a warp, and what a request costs.
#include "counters.h"

#include <algorithm>
#include <unordered_map>

namespace emulator {
namespace {

constexpr unsigned SECTOR_BYTES = 32;
constexpr unsigned N_BANKS = 32;
constexpr unsigned BANK_BYTES = 4;

Totals totals;

// The accesses of each thread since its warp met last.
std::vector<Event> events[MAX_THREADS];

// One instruction of a warp: the addresses of the lanes that take part.
struct Request {
    uint32_t site;
    uint32_t mask;
    uint64_t addresses[LANES];
};

unsigned width_index(unsigned width) { return std::min<unsigned>(__builtin_ctz(width), N_WIDTHS - 1); }

// The lanes' addresses, each once, in order.
unsigned distinct(const Request &request, uint64_t (&sorted)[LANES]) {
    unsigned n = 0;
    bool ascending = true;
    for (uint32_t mask = request.mask; mask != 0; mask &= mask - 1) {
        sorted[n] = request.addresses[__builtin_ctz(mask)];
        ascending &= n == 0 || sorted[n - 1] <= sorted[n];
        ++n;
    }
    if (!ascending) {
        std::sort(sorted, sorted + n);
    }
    return static_cast<unsigned>(std::unique(sorted, sorted + n) - sorted);
}

Traffic global_traffic(const Request &request, const Site &site) {
    uint64_t addresses[LANES];
    const unsigned n = distinct(request, addresses);
    Traffic traffic;
    traffic.requests = 1;
    traffic.bytes = uint64_t{n} * site.width;
    traffic.least_sectors = (traffic.bytes + SECTOR_BYTES - 1) / SECTOR_BYTES;
    const bool write = site.access == static_cast<uint32_t>(Access::Store) ||
                       site.access == static_cast<uint32_t>(Access::Atomic);
    uint64_t last = ~uint64_t{0};
    for (unsigned i = 0; i < n; ++i) {
        const uint64_t sector = addresses[i] / SECTOR_BYTES;
        if (sector != last) {
            last = sector;
            ++traffic.sectors;
            touch_cache(sector, write, totals);
        }
    }
    return traffic;
}

// Lanes go over the banks together as long as their data make up 128 bytes: 8 bytes a lane take
// two passes, 16 bytes four. Lanes of a pass that want different words of one bank take turns.
Traffic shared_traffic(const Request &request, const Site &site) {
    Traffic traffic;
    traffic.requests = 1;
    const unsigned words_per_lane = std::max(site.width / BANK_BYTES, 1u);
    const unsigned lanes_per_pass = LANES / words_per_lane;
    for (unsigned first = 0; first < LANES; first += lanes_per_pass) {
        uint64_t words[LANES];
        unsigned n = 0;
        for (unsigned lane = first; lane < first + lanes_per_pass; ++lane) {
            if ((request.mask >> lane & 1) != 0) {
                for (unsigned word = 0; word < words_per_lane; ++word) {
                    words[n++] = request.addresses[lane] / BANK_BYTES + word;
                }
            }
        }
        if (n == 0) {
            continue;
        }
        std::sort(words, words + n);
        n = static_cast<unsigned>(std::unique(words, words + n) - words);
        unsigned turns[N_BANKS] = {};
        unsigned most = 0;
        for (unsigned i = 0; i < n; ++i) {
            most = std::max(most, ++turns[words[i] % N_BANKS]);
        }
        traffic.bytes += uint64_t{n} * BANK_BYTES;
        traffic.wavefronts += most;
        traffic.least_wavefronts += 1;
    }
    return traffic;
}

void count(const Request &request) {
    Site &site = site_at(request.site);
    const auto access = static_cast<Access>(site.access);
    const unsigned width = width_index(site.width);
    const bool loads = access == Access::Load;
    if (access == Access::Atomic) {
        ++totals.atomics;
    } else if (access == Access::CopyStore) {
        ++totals.async_copies;
    } else if (access == Access::Load || access == Access::Store) {
        auto &by_width = site.shared != 0 ? (loads ? totals.shared_loads : totals.shared_stores)
                                          : (loads ? totals.global_loads : totals.global_stores);
        ++by_width[width];
    }
    const Traffic traffic = site.shared != 0 ? shared_traffic(request, site) : global_traffic(request, site);
    site.traffic.add(traffic);
    if (site.shared != 0) {
        totals.shared.add(traffic);
    } else if (access == Access::Store || access == Access::Atomic) {
        totals.written.add(traffic);
    } else {
        totals.read.add(traffic);
    }
}

// Whether all lanes that did anything did the same instructions in the same order.
bool in_step(const std::vector<Event> *lanes) {
    const std::vector<Event> *first = nullptr;
    for (unsigned lane = 0; lane < LANES; ++lane) {
        const std::vector<Event> &own = lanes[lane];
        if (own.empty()) {
            continue;
        }
        if (first == nullptr) {
            first = &own;
        } else if (!std::equal(own.begin(), own.end(), first->begin(), first->end(),
                               [](const Event &a, const Event &b) { return a.site == b.site; })) {
            return false;
        }
    }
    return true;
}

void count_in_step(const std::vector<Event> *lanes) {
    size_t n_events = 0;
    for (unsigned lane = 0; lane < LANES; ++lane) {
        n_events = std::max(n_events, lanes[lane].size());
    }
    for (size_t i = 0; i < n_events; ++i) {
        Request request{};
        for (unsigned lane = 0; lane < LANES; ++lane) {
            if (!lanes[lane].empty()) {
                const Event &event = lanes[lane][i];
                request.site = event.site;
                request.mask |= 1u << lane;
                request.addresses[lane] = event.address;
            }
        }
        count(request);
    }
}

void count_diverged(const std::vector<Event> *lanes) {
    std::vector<Request> requests;
    std::unordered_map<uint32_t, std::vector<size_t>> of_site;
    for (unsigned lane = 0; lane < LANES; ++lane) {
        std::unordered_map<uint32_t, size_t> n_done;
        for (const Event &event : lanes[lane]) {
            std::vector<size_t> &own = of_site[event.site];
            const size_t turn = n_done[event.site]++;
            if (turn == own.size()) {
                own.push_back(requests.size());
                requests.push_back({event.site, 0, {}});
            }
            Request &request = requests[own[turn]];
            request.mask |= 1u << lane;
            request.addresses[lane] = event.address;
        }
    }
    for (const Request &request : requests) {
        count(request);
    }
}

} // namespace

void Traffic::add(const Traffic &other) {
    requests += other.requests;
    bytes += other.bytes;
    sectors += other.sectors;
    least_sectors += other.least_sectors;
    wavefronts += other.wavefronts;
    least_wavefronts += other.least_wavefronts;
}

void start_counting() {
    totals = {};
    clear_sites();
    // What a launch that failed left behind.
    for (std::vector<Event> &own : events) {
        own.clear();
    }
    clear_cache();
}

Counters finish_counting(const Kernel &kernel, const Shape &shape) {
    write_back_cache(totals);
    return {kernel.name, shape, totals, busy_sites()};
}

void add_event(const Thread &thread, Event event) { events[thread.id].push_back(event); }

void note_operation(Class instruction) {
    switch (instruction) {
    case Class::Mma:
        ++totals.mma;
        break;
    case Class::Ldmatrix:
        ++totals.ldmatrix;
        break;
    case Class::Exchange:
        ++totals.exchanges;
        break;
    case Class::Barrier:
        ++totals.barriers;
        break;
    case Class::Warp:
        break;
    }
}

void flush_requests(Warp &warp) {
    std::vector<Event> *lanes = &events[current->id / LANES * LANES];
    if (in_step(lanes)) {
        count_in_step(lanes);
    } else {
        count_diverged(lanes);
    }
    for (unsigned lane = 0; lane < LANES; ++lane) {
        lanes[lane].clear();
    }
    order_warp(warp);
}

} // namespace emulator
