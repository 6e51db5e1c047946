// Streams and events.
#include <algorithm>
#include <chrono>

#include "driver.h"

namespace {

double milliseconds() {
    const auto now = std::chrono::steady_clock::now().time_since_epoch();
    return std::chrono::duration<double, std::milli>(now).count();
}

} // namespace

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
    driver::streams().erase(std::find(driver::streams().begin(), driver::streams().end(), stream));
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
    ++driver::session()->calls.waits;
    return driver::drain(stream);
}

// A stream makes some progress each time it is asked.
DRIVER_API cuStreamQuery(CUstream handle) {
    ENTER
    const CUstream stream = resolve(handle);
    if (stream->queue.empty()) {
        return CUDA_SUCCESS;
    }
    driver::run_next(stream);
    return driver::sticky == CUDA_SUCCESS ? CUDA_ERROR_NOT_READY : driver::sticky;
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
        mark->milliseconds = milliseconds();
        return CUDA_SUCCESS;
    });
}

DRIVER_API cuEventSynchronize(CUevent event) {
    ENTER
    if (event->captured_into != nullptr) {
        return CUDA_ERROR_CAPTURED_EVENT;
    }
    ++driver::session()->calls.waits;
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
