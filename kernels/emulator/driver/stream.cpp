// Streams and events: in what order work is done.
#include <algorithm>
#include <chrono>

#include "driver.h"

namespace driver {
namespace {

// Work that piles up in a stream before it is done anyway.
constexpr size_t QUEUE_LIMIT = 4096;

CUstream_st default_stream;
uint64_t next_order = 1;

std::vector<CUstream> &streams() {
    static std::vector<CUstream> streams{&default_stream};
    return streams;
}

// The thread that captures in a mode that only concerns itself.
PerThread<CUstream> thread_capture;

CUresult run_front(CUstream stream) {
    Work work = std::move(stream->queue.front());
    stream->queue.pop_front();
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

double milliseconds() {
    const auto now = std::chrono::steady_clock::now().time_since_epoch();
    return std::chrono::duration<double, std::milli>(now).count();
}

} // namespace

CUstream resolve(CUstream stream) {
    const bool is_default = stream == nullptr || stream == CU_STREAM_LEGACY || stream == CU_STREAM_PER_THREAD;
    return is_default ? &default_stream : stream;
}

bool is_stream(CUstream stream) {
    return std::find(streams().begin(), streams().end(), resolve(stream)) != streams().end();
}

CUresult submit(CUstream handle, Kind kind, std::string name, std::function<CUresult()> run) {
    if (!is_stream(handle)) {
        return CUDA_ERROR_INVALID_HANDLE;
    }
    const CUstream stream = resolve(handle);
    Work work{kind, std::move(name), std::move(run), next_order++};
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

CUresult drain(CUstream handle, uint64_t before) {
    const CUstream stream = resolve(handle);
    while (!stream->queue.empty() && stream->queue.front().order < before && sticky == CUDA_SUCCESS) {
        if (stream->blocking && drain_blocking(stream, stream->queue.front().order) != CUDA_SUCCESS) {
            break;
        }
        run_front(stream);
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

bool breaks_capture() {
    bool broken = false;
    for (const CUstream stream : streams()) {
        const bool concerned = stream->capture_mode == CU_STREAM_CAPTURE_MODE_GLOBAL ||
                               (stream->capture_mode == CU_STREAM_CAPTURE_MODE_THREAD_LOCAL && stream == thread_capture.value());
        if (stream->capture != nullptr && concerned) {
            stream->capture_invalid = true;
            broken = true;
        }
    }
    return broken;
}

void forget(CUstream stream) {
    streams().erase(std::remove(streams().begin(), streams().end(), stream), streams().end());
}

} // namespace driver

using driver::resolve;

DRIVER_API cuStreamCreate(CUstream *made, unsigned flags) {
    ENTER
    *made = new CUstream_st;
    (*made)->blocking = (flags & CU_STREAM_NON_BLOCKING) == 0;
    driver::streams().push_back(*made);
    return CUDA_SUCCESS;
}

DRIVER_API cuStreamCreateWithPriority(CUstream *made, unsigned flags, int) { return cuStreamCreate(made, flags); }

DRIVER_API cuStreamDestroy_v2(CUstream stream) {
    const driver::Lock lock(driver::mutex());
    if (stream == nullptr || !driver::is_stream(stream)) {
        return CUDA_ERROR_INVALID_HANDLE;
    }
    // A real stream goes once its work is done.
    const CUresult result = driver::drain(stream);
    driver::forget(stream);
    delete stream;
    return result;
}

DRIVER_API cuStreamSynchronize(CUstream stream) {
    ENTER
    if (!driver::is_stream(stream)) {
        return CUDA_ERROR_INVALID_HANDLE;
    }
    if (resolve(stream)->capture != nullptr) {
        resolve(stream)->capture_invalid = true;
        return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    }
    return driver::drain(stream);
}

// A stream makes some progress each time it is asked.
DRIVER_API cuStreamQuery(CUstream handle) {
    ENTER
    const CUstream stream = resolve(handle);
    if (stream->queue.empty()) {
        return CUDA_SUCCESS;
    }
    const CUresult result = driver::drain(stream, stream->queue.front().order + 1);
    return result == CUDA_SUCCESS ? CUDA_ERROR_NOT_READY : result;
}

DRIVER_API cuStreamWaitEvent(CUstream handle, CUevent event, unsigned) {
    ENTER
    const CUstream stream = resolve(handle);
    if (event->captured_into != nullptr) {
        if (stream->capture != nullptr && stream->capture != event->captured_into) {
            stream->capture_invalid = true;
            return CUDA_ERROR_STREAM_CAPTURE_ISOLATION;
        }
        // The stream joins the capture.
        stream->capture = event->captured_into;
        return CUDA_SUCCESS;
    }
    if (stream->capture != nullptr && event->mark != nullptr) {
        stream->capture_invalid = true;
        return CUDA_ERROR_STREAM_CAPTURE_ISOLATION;
    }
    if (event->mark == nullptr) {
        return CUDA_SUCCESS;
    }
    return driver::submit(stream, driver::Kind::Wait, {}, [mark = event->mark] { return driver::drain_until(*mark); });
}

DRIVER_API cuLaunchHostFunc(CUstream stream, CUhostFn function, void *data) {
    ENTER
    return driver::submit(stream, driver::Kind::Host, {}, [=] {
        function(data);
        return CUDA_SUCCESS;
    });
}

DRIVER_API cuEventCreate(CUevent *made, unsigned) {
    ENTER
    *made = new CUevent_st;
    return CUDA_SUCCESS;
}

DRIVER_API cuEventDestroy_v2(CUevent event) {
    const driver::Lock lock(driver::mutex());
    delete event;
    return CUDA_SUCCESS;
}

DRIVER_API cuEventRecord(CUevent event, CUstream handle) {
    ENTER
    const CUstream stream = resolve(handle);
    event->captured_into = stream->capture;
    if (stream->capture != nullptr) {
        event->mark = nullptr;
        return CUDA_SUCCESS;
    }
    event->mark = std::make_shared<driver::Mark>(driver::Mark{stream, false, 0});
    return driver::submit(stream, driver::Kind::Record, {}, [mark = event->mark] {
        mark->reached = true;
        mark->milliseconds = driver::milliseconds();
        return CUDA_SUCCESS;
    });
}

DRIVER_API cuEventSynchronize(CUevent event) {
    ENTER
    if (event->captured_into != nullptr) {
        return CUDA_ERROR_CAPTURED_EVENT;
    }
    return event->mark != nullptr ? driver::drain_until(*event->mark) : CUDA_SUCCESS;
}

DRIVER_API cuEventQuery(CUevent event) {
    ENTER
    if (event->captured_into != nullptr) {
        return CUDA_ERROR_CAPTURED_EVENT;
    }
    if (event->mark == nullptr || event->mark->reached) {
        return CUDA_SUCCESS;
    }
    const CUresult result = cuStreamQuery(event->mark->stream);
    return result == CUDA_SUCCESS ? CUDA_ERROR_NOT_READY : result;
}

DRIVER_API cuEventElapsedTime_v2(float *elapsed, CUevent start, CUevent end) {
    ENTER
    if (start->mark == nullptr || end->mark == nullptr) {
        return CUDA_ERROR_INVALID_HANDLE;
    }
    if (!start->mark->reached || !end->mark->reached) {
        return CUDA_ERROR_NOT_READY;
    }
    *elapsed = static_cast<float>(end->mark->milliseconds - start->mark->milliseconds);
    return CUDA_SUCCESS;
}

DRIVER_API cuEventElapsedTime(float *elapsed, CUevent start, CUevent end) {
    return cuEventElapsedTime_v2(elapsed, start, end);
}

DRIVER_API cuStreamIsCapturing(CUstream handle, CUstreamCaptureStatus *status) {
    ENTER
    const CUstream stream = resolve(handle);
    *status = stream->capture == nullptr  ? CU_STREAM_CAPTURE_STATUS_NONE
              : stream->capture_invalid ? CU_STREAM_CAPTURE_STATUS_INVALIDATED
                                        : CU_STREAM_CAPTURE_STATUS_ACTIVE;
    return CUDA_SUCCESS;
}

DRIVER_API cuStreamBeginCapture_v2(CUstream stream, CUstreamCaptureMode mode) {
    ENTER
    if (resolve(stream) == &driver::default_stream) {
        return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    }
    if (stream->capture != nullptr) {
        return CUDA_ERROR_ILLEGAL_STATE;
    }
    stream->capture = std::make_shared<driver::Graph>();
    stream->capture_origin = true;
    stream->capture_invalid = false;
    stream->capture_mode = mode;
    driver::thread_capture.value() = stream;
    return CUDA_SUCCESS;
}

DRIVER_API cuStreamEndCapture(CUstream stream, CUgraph *made) {
    const driver::Lock lock(driver::mutex());
    *made = nullptr;
    if (resolve(stream)->capture == nullptr || !stream->capture_origin) {
        return CUDA_ERROR_ILLEGAL_STATE;
    }
    if (stream->capture_mode == CU_STREAM_CAPTURE_MODE_THREAD_LOCAL && driver::thread_capture.value() != stream) {
        return CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD;
    }
    const std::shared_ptr<driver::Graph> graph = stream->capture;
    bool invalid = std::exchange(driver::faults.capture, false);
    for (const CUstream member : driver::streams()) {
        if (member->capture == graph) {
            invalid |= std::exchange(member->capture_invalid, false);
            member->capture = nullptr;
            member->capture_origin = false;
        }
    }
    driver::thread_capture.value() = nullptr;
    if (driver::sticky != CUDA_SUCCESS) {
        return driver::sticky;
    }
    if (invalid) {
        return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    }
    *made = new CUgraph_st{graph};
    return CUDA_SUCCESS;
}
