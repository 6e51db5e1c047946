// In what order work is done: streams and the queues in them.
#include <algorithm>
#include <unistd.h>

#include "driver.h"

namespace driver {
namespace {

// Work that piles up in a stream before it is done anyway.
constexpr size_t QUEUE_LIMIT = 4096;

CUstream_st default_stream;
uint64_t next_order = 1;

CUresult run_front(CUstream stream) {
    Work work = std::move(stream->queue.front());
    stream->queue.pop_front();
    stream->order = work.order;
    const CUresult result = work.run();
    if (result != CUDA_SUCCESS) {
        sticky = result;
        // What waits is never done: its memory may be freed before the error is taken.
        for (const CUstream other : streams()) {
            other->queue.clear();
        }
    }
    return sticky;
}

// The default stream and the blocking ones are in order with each other.
CUresult drain_blocking(CUstream stream, uint64_t before) {
    for (const CUstream other : std::vector<CUstream>(streams())) {
        const bool ordered = other != stream && other->blocking && (other == &default_stream || stream == &default_stream);
        if (ordered && !other->queue.empty() && other->queue.front().order < before) {
            if (const CUresult result = drain(other, before); result != CUDA_SUCCESS) {
                return result;
            }
        }
    }
    return CUDA_SUCCESS;
}

} // namespace

std::vector<CUstream> &streams() {
    static std::vector<CUstream> streams{&default_stream};
    return streams;
}

CUstream resolve(CUstream stream) {
    const bool is_default = stream == nullptr || stream == CU_STREAM_LEGACY || stream == CU_STREAM_PER_THREAD;
    return is_default ? &default_stream : stream;
}

bool is_stream(CUstream stream) {
    return std::find(streams().begin(), streams().end(), resolve(stream)) != streams().end();
}

uint64_t take_order() { return next_order++; }

CUresult submit(CUstream handle, Kind kind, std::string name, std::function<CUresult()> run) {
    if (!is_stream(handle)) {
        return CUDA_ERROR_INVALID_HANDLE;
    }
    const CUstream stream = resolve(handle);
    Work work{kind, std::move(name), std::move(run), take_order()};
    if (stream->capture != nullptr) {
        if (stream->capture_invalid) {
            return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
        }
        stream->capture->nodes.push_back(std::move(work));
        return CUDA_SUCCESS;
    }
    stream->queue.push_back(std::move(work));
    return stream->queue.size() > QUEUE_LIMIT ? drain(stream) : CUDA_SUCCESS;
}

bool run_next(CUstream stream) {
    if (stream->blocking && drain_blocking(stream, stream->queue.front().order) != CUDA_SUCCESS) {
        return true;
    }
    const Kind kind = stream->queue.front().kind;
    stream->hangs |= (kind == Kind::Launch || kind == Kind::Graph) && faults.strikes(Fault::Hang);
    if (!stream->hangs) {
        run_front(stream);
    }
    return !stream->hangs;
}

CUresult drain(CUstream handle, uint64_t before) {
    const CUstream stream = resolve(handle);
    while (!stream->queue.empty() && stream->queue.front().order < before && sticky == CUDA_SUCCESS) {
        if (!run_next(stream)) {
            // Who waits for it waits for ever, and so does everyone else.
            for (;;) {
                pause();
            }
        }
    }
    return sticky;
}

CUresult drain_until(const Mark &mark) {
    while (!mark.reached && sticky == CUDA_SUCCESS && is_stream(mark.stream) && !mark.stream->queue.empty()) {
        drain(mark.stream, mark.stream->queue.front().order + 1);
    }
    return sticky;
}

CUresult drain_all() {
    std::vector<CUstream> order = streams();
    if (session()->schedule.order == emulator::Order::Reverse) {
        std::reverse(order.begin(), order.end());
    }
    for (const CUstream stream : order) {
        drain(stream);
    }
    return sticky;
}

} // namespace driver

