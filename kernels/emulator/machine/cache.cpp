// A second-level cache: sets of 16 lines of 128 bytes, each with four sectors, the least recently
// used line replaced. It starts empty with each launch and writes back what is left at its end, so
// the bytes that it moves are those that the launch cannot do without, plus what it reads twice.
#include "counters.h"

#include <algorithm>
#include <vector>

namespace emulator {
namespace {

constexpr unsigned N_WAYS = 16;
constexpr unsigned SECTORS_PER_LINE = 4;
constexpr unsigned SECTOR_BYTES = 32;

struct Line {
    uint64_t tag = 0;
    uint64_t used = 0;  // 0: empty
    uint8_t valid = 0;  // sectors
    uint8_t dirty = 0;
};

// Launches of tests are scaled down, and so is the cache.
size_t cache_bytes = 256 << 10;
std::vector<Line> lines;
uint64_t now;

void write_back(Line &line, Totals &totals) {
    totals.memory_written += static_cast<uint64_t>(__builtin_popcount(line.dirty)) * SECTOR_BYTES;
    line = {};
}

} // namespace

void set_cache_bytes(size_t n_bytes) { cache_bytes = n_bytes; }

void clear_cache() {
    const size_t set_bytes = N_WAYS * SECTORS_PER_LINE * SECTOR_BYTES;
    lines.assign(std::max<size_t>(cache_bytes / set_bytes, 1) * N_WAYS, {});
    now = 0;
}

void touch_cache(uint64_t sector, bool write, Totals &totals) {
    const uint64_t tag = sector / SECTORS_PER_LINE;
    const auto bit = static_cast<uint8_t>(1u << sector % SECTORS_PER_LINE);
    // Neighbouring lines go to neighbouring sets; the upper bits are mixed in, or arrays that lie
    // a power of two apart would meet in one set.
    const uint64_t mixed = tag ^ tag >> 7 ^ tag >> 13;
    Line *set = &lines[mixed % (lines.size() / N_WAYS) * N_WAYS];
    Line *chosen = set;
    for (Line *line = set; line < set + N_WAYS; ++line) {
        if (line->used != 0 && line->tag == tag) {
            chosen = line;
            break;
        }
        if (line->used < chosen->used) {
            chosen = line;
        }
    }
    if (chosen->used == 0 || chosen->tag != tag) {
        write_back(*chosen, totals);
        chosen->tag = tag;
    }
    chosen->used = ++now;
    if (write) {
        chosen->dirty |= bit;
    } else if ((chosen->valid & bit) == 0) {
        totals.memory_read += SECTOR_BYTES;
    }
    chosen->valid |= bit;
}

void write_back_cache(Totals &totals) {
    for (Line &line : lines) {
        write_back(line, totals);
    }
}

} // namespace emulator
