// Capturing a stream's work into a graph.
#include "driver.h"

namespace {

// The stream that the thread captures.
driver::PerThread<CUstream> thread_capture;

} // namespace

bool driver::breaks_capture() {
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

DRIVER_API cuStreamIsCapturing(CUstream handle, CUstreamCaptureStatus *status) {
    ENTER
    const CUstream stream = driver::resolve(handle);
    *status = stream->capture == nullptr  ? CU_STREAM_CAPTURE_STATUS_NONE
              : stream->capture_invalid ? CU_STREAM_CAPTURE_STATUS_INVALIDATED
                                        : CU_STREAM_CAPTURE_STATUS_ACTIVE;
    return CUDA_SUCCESS;
}

namespace {

CUresult begin(CUstream stream, std::shared_ptr<driver::Graph> into, CUgraph captured_to, CUstreamCaptureMode mode) {
    if (driver::resolve(stream) == driver::resolve(nullptr)) {
        return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    }
    if (stream->capture != nullptr) {
        return CUDA_ERROR_ILLEGAL_STATE;
    }
    stream->capture = std::move(into);
    stream->captured_to = captured_to;
    stream->capture_origin = true;
    stream->capture_invalid = false;
    stream->capture_mode = mode;
    thread_capture.value() = stream;
    return CUDA_SUCCESS;
}

} // namespace

DRIVER_API cuStreamBeginCapture_v2(CUstream stream, CUstreamCaptureMode mode) {
    ENTER
    return begin(stream, std::make_shared<driver::Graph>(), nullptr, mode);
}

// The graph's nodes so far are not waited for: it has none, or the caller names some.
DRIVER_API cuStreamBeginCaptureToGraph(CUstream stream, CUgraph graph, const CUgraphNode *, const CUgraphEdgeData *,
                                       size_t n_dependencies, CUstreamCaptureMode mode) {
    ENTER
    if (n_dependencies > 0 || !graph->graph->nodes.empty()) {
        return CUDA_ERROR_NOT_SUPPORTED;
    }
    return begin(stream, graph->graph, graph, mode);
}

DRIVER_API cuStreamEndCapture(CUstream stream, CUgraph *made) {
    const driver::Lock lock(driver::mutex());
    *made = nullptr;
    if (driver::resolve(stream)->capture == nullptr || !stream->capture_origin) {
        return CUDA_ERROR_ILLEGAL_STATE;
    }
    if (stream->capture_mode == CU_STREAM_CAPTURE_MODE_THREAD_LOCAL && thread_capture.value() != stream) {
        return CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD;
    }
    const std::shared_ptr<driver::Graph> graph = stream->capture;
    const CUgraph captured_to = std::exchange(stream->captured_to, nullptr);
    const bool no_memory = driver::faults.strikes(driver::Fault::CaptureMemory);
    bool invalid = driver::faults.strikes(driver::Fault::Capture);
    for (const CUstream member : driver::streams()) {
        if (member->capture == graph) {
            invalid |= std::exchange(member->capture_invalid, false);
            member->capture = nullptr;
            member->capture_origin = false;
        }
    }
    thread_capture.value() = nullptr;
    if (driver::sticky != CUDA_SUCCESS) {
        return driver::sticky;
    }
    if (no_memory) {
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    if (invalid) {
        return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    }
    *made = captured_to != nullptr ? captured_to : new CUgraph_st{graph};
    return CUDA_SUCCESS;
}
