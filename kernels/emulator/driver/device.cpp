// The device and its context.
#include <cstdio>
#include <cstring>

#include "driver.h"
#include "emulator/machine/memory.h"

namespace driver {

Faults faults;
CUresult sticky = CUDA_SUCCESS;

std::recursive_mutex &mutex() {
    static std::recursive_mutex mutex;
    return mutex;
}

} // namespace driver

namespace {

// The one context; its handle is its address.
char context;
int n_retained;
driver::PerThread<CUcontext> current_context;

struct Error {
    CUresult result;
    const char *name;
    const char *words;
};

const Error ERRORS[] = {
    {CUDA_SUCCESS, "CUDA_SUCCESS", "no error"},
    {CUDA_ERROR_INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {CUDA_ERROR_OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {CUDA_ERROR_NO_DEVICE, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    {CUDA_ERROR_INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {CUDA_ERROR_INVALID_IMAGE, "CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid"},
    {CUDA_ERROR_INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {CUDA_ERROR_INVALID_HANDLE, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
    {CUDA_ERROR_NOT_FOUND, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {CUDA_ERROR_NOT_READY, "CUDA_ERROR_NOT_READY", "device not ready"},
    {CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES, "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES",
     "too many resources requested for launch"},
    {CUDA_ERROR_LAUNCH_FAILED, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"},
    {CUDA_ERROR_NOT_SUPPORTED, "CUDA_ERROR_NOT_SUPPORTED", "operation not supported"},
    {CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED",
     "operation not permitted when stream is capturing"},
    {CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED",
     "operation failed due to a previous error during capture"},
    {CUDA_ERROR_STREAM_CAPTURE_UNJOINED, "CUDA_ERROR_STREAM_CAPTURE_UNJOINED",
     "capturing stream has unjoined work"},
    {CUDA_ERROR_STREAM_CAPTURE_ISOLATION, "CUDA_ERROR_STREAM_CAPTURE_ISOLATION",
     "dependency created on uncaptured work in another stream"},
    {CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD, "CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD",
     "attempt to terminate a thread-local capture sequence from another thread"},
    {CUDA_ERROR_CAPTURED_EVENT, "CUDA_ERROR_CAPTURED_EVENT",
     "operation not permitted on an event last recorded in a capturing stream"},
    {CUDA_ERROR_ILLEGAL_STATE, "CUDA_ERROR_ILLEGAL_STATE", "the operation cannot be performed in the present state"},
    {CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE, "CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE",
     "the graph update was not performed because it included changes which violated constraints specific to "
     "instantiated graph update"},
};

const Error *find_error(CUresult result) {
    for (const Error &error : ERRORS) {
        if (error.result == result) {
            return &error;
        }
    }
    return nullptr;
}

int attribute(CUdevice_attribute which) {
    switch (which) {
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR:
        return driver::faults.capability[0];
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR:
        return driver::faults.capability[1];
    case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT:
        return 4;
    case CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK:
        return emulator::MAX_THREADS;
    case CU_DEVICE_ATTRIBUTE_WARP_SIZE:
        return emulator::LANES;
    case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK:
        return 48 << 10;
    case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN:
        return emulator::MAX_SHARED_BYTES;
    case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR:
        return emulator::MAX_SHARED_BYTES + 1024;
    case CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE:
        return 4 << 20;
    case CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED:
    case CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING:
    case CU_DEVICE_ATTRIBUTE_CAN_MAP_HOST_MEMORY:
        return 1;
    default:
        return 0;
    }
}

} // namespace

DRIVER_API cuInit(unsigned) { return CUDA_SUCCESS; }

DRIVER_API cuDriverGetVersion(int *version) {
    *version = driver::faults.driver_version;
    return CUDA_SUCCESS;
}

DRIVER_API cuDeviceGetCount(int *count) {
    *count = 1;
    return CUDA_SUCCESS;
}

DRIVER_API cuDeviceGet(CUdevice *device, int ordinal) {
    *device = ordinal;
    return ordinal == 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}

DRIVER_API cuDeviceGetName(char *name, int length, CUdevice) {
    snprintf(name, length, "emulated device");
    return CUDA_SUCCESS;
}

DRIVER_API cuDeviceTotalMem_v2(size_t *bytes, CUdevice) {
    const driver::Lock lock(driver::mutex());
    *bytes = emulator::room().total;
    return CUDA_SUCCESS;
}

DRIVER_API cuDeviceGetAttribute(int *value, CUdevice_attribute which, CUdevice) {
    *value = attribute(which);
    return CUDA_SUCCESS;
}

DRIVER_API cuDeviceGetUuid_v2(CUuuid *uuid, CUdevice) {
    memset(uuid, 0, sizeof *uuid);
    return CUDA_SUCCESS;
}

DRIVER_API cuDevicePrimaryCtxRetain(CUcontext *made, CUdevice) {
    ENTER
    ++n_retained;
    *made = reinterpret_cast<CUcontext>(&context);
    return CUDA_SUCCESS;
}

// Whoever releases it last resets the device, which ends a kernel's fault where it can be ended.
DRIVER_API cuDevicePrimaryCtxRelease_v2(CUdevice) {
    const driver::Lock lock(driver::mutex());
    if (n_retained == 0) {
        return CUDA_ERROR_INVALID_CONTEXT;
    }
    if (--n_retained == 0 && driver::faults.resets) {
        driver::sticky = CUDA_SUCCESS;
    }
    return CUDA_SUCCESS;
}

DRIVER_API cuCtxGetCurrent(CUcontext *found) {
    *found = current_context.value();
    return CUDA_SUCCESS;
}

DRIVER_API cuCtxSetCurrent(CUcontext made_current) {
    current_context.value() = made_current;
    return CUDA_SUCCESS;
}

DRIVER_API cuCtxSynchronize() {
    ENTER
    if (driver::breaks_capture()) {
        return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    }
    ++driver::session()->calls.waits;
    return driver::drain_all();
}

DRIVER_API cuGetErrorName(CUresult result, const char **name) {
    const Error *error = find_error(result);
    *name = error != nullptr ? error->name : nullptr;
    return error != nullptr ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

DRIVER_API cuGetErrorString(CUresult result, const char **words) {
    const Error *error = find_error(result);
    *words = error != nullptr ? error->words : nullptr;
    return error != nullptr ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}
