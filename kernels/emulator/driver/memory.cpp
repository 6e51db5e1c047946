// Memory of the device and of the host, and what is copied between them.
#include <cstring>

#include "driver.h"
#include "emulator/machine/memory.h"

using driver::Kind;

namespace {

char *pointer(CUdeviceptr address) { return reinterpret_cast<char *>(address); }

bool lies_in(emulator::Home home, const void *address, size_t n_bytes) {
    const emulator::Allocation *found = emulator::find_allocation(address, n_bytes);
    return found != nullptr && found->home == home;
}

bool on_device(CUdeviceptr address, size_t n_bytes) {
    return n_bytes == 0 || lies_in(emulator::Home::Device, pointer(address), n_bytes);
}

bool captures(CUstream stream) { return driver::resolve(stream)->capture != nullptr; }

CUresult allocate(CUdeviceptr *made, size_t n_bytes) {
    ++driver::session()->calls.allocations;
    if (n_bytes == 0) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    if (driver::faults.strikes(driver::Fault::Allocation)) {
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    void *memory = emulator::allocate(n_bytes);
    if (memory == nullptr) {
        // Memory that is freed in stream order may be waiting for its turn.
        if (const CUresult result = driver::drain_all(); result != CUDA_SUCCESS) {
            return result;
        }
        memory = emulator::allocate(n_bytes);
    }
    *made = reinterpret_cast<CUdeviceptr>(memory);
    return memory != nullptr ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

} // namespace

bool driver::is_pinned(const void *memory, size_t n_bytes) {
    return lies_in(emulator::Home::Host, memory, n_bytes);
}

DRIVER_API cuMemAlloc_v2(CUdeviceptr *made, size_t n_bytes) {
    ENTER
    return driver::breaks_capture() ? CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED : allocate(made, n_bytes);
}

DRIVER_API cuMemAllocAsync(CUdeviceptr *made, size_t n_bytes, CUstream stream) {
    ENTER
    if (captures(stream)) {
        // A real driver would make the allocation a part of the graph; nothing here wants that.
        driver::resolve(stream)->capture_invalid = true;
        return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    }
    return allocate(made, n_bytes);
}

// Waits for all work first, as the real one does.
DRIVER_API cuMemFree_v2(CUdeviceptr address) {
    const driver::Lock lock(driver::mutex());
    if (driver::breaks_capture()) {
        return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    }
    const CUresult result = driver::drain_all();
    if (address != 0 && !(lies_in(emulator::Home::Device, pointer(address), 1) && emulator::release(pointer(address)))) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    return result;
}

DRIVER_API cuMemFreeAsync(CUdeviceptr address, CUstream stream) {
    const driver::Lock lock(driver::mutex());
    if (captures(stream)) {
        driver::resolve(stream)->capture_invalid = true;
        return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    }
    if (!lies_in(emulator::Home::Device, pointer(address), 1)) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    if (driver::sticky != CUDA_SUCCESS) {
        emulator::release(pointer(address));
        return driver::sticky;
    }
    return driver::submit(stream, Kind::Free, {}, [=] {
        return emulator::release(pointer(address)) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
    });
}

DRIVER_API cuMemGetInfo_v2(size_t *free, size_t *total) {
    ENTER
    const emulator::Room room = emulator::room();
    *free = room.free;
    *total = room.total;
    return CUDA_SUCCESS;
}

DRIVER_API cuMemHostAlloc(void **made, size_t n_bytes, unsigned) {
    ENTER
    ++driver::session()->calls.allocations;
    if (driver::faults.strikes(driver::Fault::PinnedAllocation)) {
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    *made = emulator::allocate(n_bytes, emulator::Home::Host);
    return *made != nullptr ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

DRIVER_API cuMemFreeHost(void *memory) {
    const driver::Lock lock(driver::mutex());
    driver::drain_all();
    const bool is_known = lies_in(emulator::Home::Host, memory, 1);
    return is_known && emulator::release(memory) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

// From pageable memory the driver has taken its copy when it returns; pinned memory is read when
// the copy's turn comes, and in a graph at every replay.
DRIVER_API cuMemcpyHtoDAsync_v2(CUdeviceptr target, const void *source, size_t n_bytes, CUstream stream) {
    ENTER
    if (!on_device(target, n_bytes)) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    if (captures(stream) || driver::is_pinned(source, n_bytes)) {
        return driver::submit(stream, Kind::Copy, {}, [=] {
            memcpy(pointer(target), source, n_bytes);
            return CUDA_SUCCESS;
        });
    }
    const char *bytes = static_cast<const char *>(source);
    return driver::submit(stream, Kind::Copy, {}, [target, taken = std::vector<char>(bytes, bytes + n_bytes)] {
        memcpy(pointer(target), taken.data(), taken.size());
        return CUDA_SUCCESS;
    });
}

// To pageable memory the driver returns once the bytes are there.
DRIVER_API cuMemcpyDtoHAsync_v2(void *target, CUdeviceptr source, size_t n_bytes, CUstream stream) {
    ENTER
    if (!on_device(source, n_bytes)) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    const CUresult result = driver::submit(stream, Kind::Copy, {}, [=] {
        memcpy(target, pointer(source), n_bytes);
        return CUDA_SUCCESS;
    });
    const bool waits = !captures(stream) && !driver::is_pinned(target, n_bytes);
    driver::session()->calls.waits += waits ? 1 : 0;
    return waits && result == CUDA_SUCCESS ? driver::drain(stream) : result;
}

DRIVER_API cuMemcpyDtoDAsync_v2(CUdeviceptr target, CUdeviceptr source, size_t n_bytes, CUstream stream) {
    ENTER
    if (!on_device(target, n_bytes) || !on_device(source, n_bytes)) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    return driver::submit(stream, Kind::Copy, {}, [=] {
        memmove(pointer(target), pointer(source), n_bytes);
        return CUDA_SUCCESS;
    });
}

DRIVER_API cuMemsetD8Async(CUdeviceptr target, unsigned char value, size_t n_bytes, CUstream stream) {
    ENTER
    if (!on_device(target, n_bytes)) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    return driver::submit(stream, Kind::Fill, {}, [=] {
        memset(pointer(target), value, n_bytes);
        return CUDA_SUCCESS;
    });
}

DRIVER_API cuMemsetD32Async(CUdeviceptr target, unsigned value, size_t count, CUstream stream) {
    ENTER
    if (!on_device(target, count * sizeof value)) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    return driver::submit(stream, Kind::Fill, {}, [=] {
        for (size_t i = 0; i < count; ++i) {
            memcpy(pointer(target) + i * sizeof value, &value, sizeof value);
        }
        return CUDA_SUCCESS;
    });
}

// The forms without a stream wait for the default one.
namespace {

CUresult finish(CUresult submitted) { return submitted == CUDA_SUCCESS ? cuStreamSynchronize(nullptr) : submitted; }

} // namespace

DRIVER_API cuMemcpyHtoD_v2(CUdeviceptr target, const void *source, size_t n_bytes) {
    return finish(cuMemcpyHtoDAsync_v2(target, source, n_bytes, nullptr));
}

DRIVER_API cuMemcpyDtoH_v2(void *target, CUdeviceptr source, size_t n_bytes) {
    return finish(cuMemcpyDtoHAsync_v2(target, source, n_bytes, nullptr));
}

DRIVER_API cuMemcpyDtoD_v2(CUdeviceptr target, CUdeviceptr source, size_t n_bytes) {
    return finish(cuMemcpyDtoDAsync_v2(target, source, n_bytes, nullptr));
}

DRIVER_API cuMemsetD8_v2(CUdeviceptr target, unsigned char value, size_t n_bytes) {
    return finish(cuMemsetD8Async(target, value, n_bytes, nullptr));
}
