// A second-level cache: lines of 128 bytes, each with four sectors, of which the least recently
// used one is replaced. It starts empty with each launch and writes back what is left at its end,
// so the bytes that it moves are those that the launch cannot do without, plus what it reads
// twice. A line may stand anywhere, so that the addresses of allocations do not matter.
#include "counters.h"

#include <list>
#include <unordered_map>

namespace emulator {
namespace {

constexpr unsigned SECTORS_PER_LINE = 4;
constexpr unsigned SECTOR_BYTES = 32;

struct Line {
    uint64_t tag;
    uint8_t valid; // sectors
    uint8_t dirty;
};

// Launches of tests are scaled down, and so is the cache.
size_t cache_bytes = 256 << 10;
std::list<Line> lines; // the last one used first
std::unordered_map<uint64_t, std::list<Line>::iterator> lines_by_tag;

void write_back(const Line &line, Totals &totals) {
    totals.memory_written += static_cast<uint64_t>(__builtin_popcount(line.dirty)) * SECTOR_BYTES;
}

// The line of this tag, moved to the front.
Line &use_line(uint64_t tag, Totals &totals) {
    const auto [found, fresh] = lines_by_tag.try_emplace(tag);
    if (!fresh) {
        lines.splice(lines.begin(), lines, found->second);
        return lines.front();
    }
    if (lines.size() * SECTORS_PER_LINE * SECTOR_BYTES >= cache_bytes) {
        write_back(lines.back(), totals);
        lines_by_tag.erase(lines.back().tag);
        lines.splice(lines.begin(), lines, std::prev(lines.end()));
        lines.front() = {tag, 0, 0};
    } else {
        lines.push_front({tag, 0, 0});
    }
    found->second = lines.begin();
    return lines.front();
}

} // namespace

void set_cache_bytes(size_t n_bytes) { cache_bytes = n_bytes; }

void clear_cache() {
    lines.clear();
    lines_by_tag.clear();
}

void touch_cache(uint64_t sector, bool write, Totals &totals) {
    Line &line = use_line(sector / SECTORS_PER_LINE, totals);
    const auto bit = static_cast<uint8_t>(1u << sector % SECTORS_PER_LINE);
    if (write) {
        line.dirty |= bit;
    } else if ((line.valid & bit) == 0) {
        totals.memory_read += SECTOR_BYTES;
    }
    line.valid |= bit;
}

void write_back_cache(Totals &totals) {
    for (const Line &line : lines) {
        write_back(line, totals);
    }
    clear_cache();
}

} // namespace emulator
