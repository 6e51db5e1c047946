// Races in shared memory.
//
// Time advances at each barrier. Of every other warp a warp knows the time up to which its
// accesses came before: barriers hand that knowledge on. An access that is not known yet, to the
// same bytes, one of the two a write, is a race. Within a warp, lanes are ordered where all of
// them meet.
//
// What is remembered of a word is its last write and its last reads of the same bytes; where
// threads share a word in smaller pieces, races can go unseen, but none is made up.
#include "counters.h"

#include <algorithm>

namespace emulator {
namespace {

constexpr unsigned N_WARPS = MAX_THREADS / LANES;
constexpr unsigned WORD_BYTES = 4;

struct Touch {
    uint32_t epoch; // of the warp
    uint32_t site;
    uint16_t thread;
    uint8_t bytes; // a bit for each byte of the word
    bool atomic;
};

struct Word {
    Touch write;
    uint32_t write_time;
    Touch read; // the last one
    uint32_t read_times[N_WARPS];
};

std::vector<Word> dynamic_words, static_words;
uint32_t now = 1;
uint32_t known[N_WARPS][N_WARPS]; // [who knows][of whom]
uint32_t last_epoch;

Word &word_at(uint32_t address) {
    const bool is_dynamic = address >= DYNAMIC_SHARED;
    std::vector<Word> &words = is_dynamic ? dynamic_words : static_words;
    const uint32_t index = (is_dynamic ? address - DYNAMIC_SHARED : address) / WORD_BYTES;
    if (index >= words.size()) {
        words.resize(std::max<size_t>(index + 1, 2 * words.size()));
    }
    return words[index];
}

// Whether `other` and an access of `thread` are not ordered; `time` is when `other` was.
bool unordered(const Thread &thread, const Touch &other, uint32_t time) {
    const unsigned own_warp = thread.id / LANES;
    const unsigned warp = other.thread / LANES;
    if (warp == own_warp) {
        return other.thread != thread.id && other.epoch == thread.warp->epoch;
    }
    return time >= known[own_warp][warp];
}

[[noreturn]] void report(const Thread &thread, const char *own, uint32_t address, uint32_t site, const char *others, const Touch &other) {
    fault("shared-memory race: thread %u %s shared address %u by %s, and thread %u %s it by %s, with no barrier "
          "between",
          thread.id, own, address, site_text(site).c_str(), static_cast<unsigned>(other.thread), others,
          site_text(other.site).c_str());
}

void check_word(const Thread &thread, uint32_t address, uint8_t bytes, Access access, uint32_t site) {
    Word &word = word_at(address);
    const bool reads = access == Access::Load || access == Access::MatrixLoad;
    const bool atomic = access == Access::Atomic;
    const Touch own{thread.warp->epoch, site, static_cast<uint16_t>(thread.id), bytes, atomic};
    // Threads that all write by one instruction are taken to write the same.
    const bool same_writes = !reads && word.write.site == site;
    if ((word.write.bytes & bytes) != 0 && !same_writes && !(atomic && word.write.atomic) &&
        unordered(thread, word.write, word.write_time)) {
        report(thread, reads ? "reads" : "writes", address, site, "wrote", word.write);
    }
    if (reads) {
        if (word.read.bytes != bytes) {
            std::fill(word.read_times, word.read_times + N_WARPS, 0);
        }
        word.read = own;
        word.read_times[thread.id / LANES] = now;
        return;
    }
    if ((word.read.bytes & bytes) != 0) {
        const unsigned own_warp = thread.id / LANES;
        for (unsigned warp = 0; warp < N_WARPS; ++warp) {
            Touch read = word.read;
            if (warp != read.thread / LANES) {
                read.thread = static_cast<uint16_t>(warp * LANES);
            }
            const bool concerned = warp == own_warp ? warp == word.read.thread / LANES : word.read_times[warp] != 0;
            if (concerned && unordered(thread, read, word.read_times[warp])) {
                report(thread, "writes", address, site, "read", read);
            }
        }
    }
    word.write = own;
    word.write_time = now;
    word.read.bytes = 0;
    std::fill(word.read_times, word.read_times + N_WARPS, 0);
}

} // namespace

void start_block_races() {
    ++now;
    for (auto &row : known) {
        std::fill(row, row + N_WARPS, now);
    }
}

void check_race(const Thread &thread, uint32_t shared_address, unsigned n_bytes, Access access, uint32_t site) {
    for (uint32_t offset = 0; offset < n_bytes; offset += WORD_BYTES) {
        const uint32_t address = (shared_address + offset) / WORD_BYTES * WORD_BYTES;
        const unsigned first = (shared_address + offset) % WORD_BYTES;
        const unsigned n = std::min(n_bytes - offset, WORD_BYTES);
        check_word(thread, address, static_cast<uint8_t>(((1u << n) - 1) << first), access, site);
    }
}

void order_warp(Warp &warp) { warp.epoch = ++last_epoch; }

void note_arrival(const Thread &thread, Knowledge &knowledge) {
    const unsigned warp = thread.id / LANES;
    for (unsigned other = 0; other < N_WARPS; ++other) {
        knowledge.times[other] = std::max(knowledge.times[other], known[warp][other]);
    }
    knowledge.times[warp] = ++now;
}

void learn(const Thread &thread, const Knowledge &knowledge) {
    uint32_t(&own)[N_WARPS] = known[thread.id / LANES];
    for (unsigned other = 0; other < N_WARPS; ++other) {
        own[other] = std::max(own[other], knowledge.times[other]);
    }
}

void order_warps(uint32_t waiting, uint32_t arrived) {
    ++now;
    uint32_t together[N_WARPS] = {};
    for (unsigned warp = 0; warp < N_WARPS; ++warp) {
        if ((arrived >> warp & 1) != 0) {
            for (unsigned other = 0; other < N_WARPS; ++other) {
                together[other] = std::max(together[other], known[warp][other]);
            }
            together[warp] = now;
        }
    }
    for (unsigned warp = 0; warp < N_WARPS; ++warp) {
        if ((waiting >> warp & 1) != 0) {
            for (unsigned other = 0; other < N_WARPS; ++other) {
                known[warp][other] = std::max(known[warp][other], together[other]);
            }
        }
    }
}

} // namespace emulator
