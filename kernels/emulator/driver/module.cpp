// Modules, their functions, and launches.
//
// A kernel is taken by name from this library, but only where the image that was loaded has it
// too: so a kernel that the real compiler did not get is missing here as well.
#include <cstring>
#include <map>

#include "driver.h"
#include "emulator/machine/memory.h"

struct CUmod_st {
    std::string image;
    std::map<std::string, CUfunc_st> functions;
};

struct CUfunc_st {
    const emulator::Kernel *kernel;
    int max_dynamic_shared = 48 << 10;
};

namespace {

// Counters that are kept for who takes them.
constexpr size_t MAX_COUNTERS = 4096;

// The bytes of an image: an ELF file up to its table of sections, which is last, or the text of
// PTX up to its end.
std::string image_bytes(const void *image) {
    const char *bytes = static_cast<const char *>(image);
    if (memcmp(bytes, "\177ELF", 4) != 0) {
        return bytes;
    }
    uint64_t sections;
    uint16_t section_bytes, n_sections;
    memcpy(&sections, bytes + 40, sizeof sections);
    memcpy(&section_bytes, bytes + 58, sizeof section_bytes);
    memcpy(&n_sections, bytes + 60, sizeof n_sections);
    return std::string(bytes, sections + static_cast<size_t>(section_bytes) * n_sections);
}

bool has_kernel(const std::string &image, const std::string &name) {
    using namespace std::string_literals;
    return image.find("\0.text."s + name + "\0"s) != std::string::npos ||
           image.find(".entry " + name + "(") != std::string::npos;
}

} // namespace

bool driver::run_now(const emulator::Kernel &kernel, const emulator::Shape &shape, const void *params,
                     Session &session) {
    if (emulator::COUNTED) {
        emulator::start_counting();
    }
    std::string report = emulator::run(kernel, shape, params, session.schedule);
    if (const std::string past = emulator::check_margins(); report.empty() && !past.empty()) {
        report = "kernel " + std::string(kernel.name) + ": out of bounds: " + past;
    }
    if (emulator::COUNTED) {
        session.counters.push_back(emulator::finish_counting(kernel, shape));
        if (session.counters.size() > MAX_COUNTERS) {
            session.counters.pop_front();
        }
    }
    if (!report.empty()) {
        session.report = report;
    }
    return report.empty();
}

DRIVER_API cuModuleLoadData(CUmodule *made, const void *image) {
    ENTER
    if (driver::breaks_capture()) {
        return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    }
    *made = new CUmod_st{image_bytes(image), {}};
    return CUDA_SUCCESS;
}

DRIVER_API cuModuleUnload(CUmodule module) {
    const driver::Lock lock(driver::mutex());
    const CUresult result = driver::drain_all();
    delete module;
    return result;
}

DRIVER_API cuModuleGetFunction(CUfunction *found, CUmodule module, const char *name) {
    ENTER
    const emulator::Kernel *kernel = emulator::find_kernel(name);
    if (kernel == nullptr || !has_kernel(module->image, name)) {
        return CUDA_ERROR_NOT_FOUND;
    }
    *found = &module->functions.emplace(name, CUfunc_st{kernel}).first->second;
    return CUDA_SUCCESS;
}

DRIVER_API cuFuncSetAttribute(CUfunction function, CUfunction_attribute which, int value) {
    ENTER
    if (which == CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES) {
        if (value < 0 || value > static_cast<int>(emulator::MAX_SHARED_BYTES)) {
            return CUDA_ERROR_INVALID_VALUE;
        }
        function->max_dynamic_shared = value;
    }
    return CUDA_SUCCESS;
}

DRIVER_API cuFuncGetAttribute(int *value, CUfunction_attribute which, CUfunction function) {
    ENTER
    switch (which) {
    case CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK:
        *value = static_cast<int>(function->kernel->max_threads);
        break;
    case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES:
        *value = function->max_dynamic_shared;
        break;
    default:
        *value = 0;
    }
    return CUDA_SUCCESS;
}

DRIVER_API cuLaunchKernel(CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                          unsigned block_y, unsigned block_z, unsigned shared_bytes, CUstream stream,
                          void **arguments, void **) {
    ENTER
    ++driver::session()->calls.launches;
    if (driver::faults.strikes(driver::Fault::Launch)) {
        driver::session()->report = "a launch of " + std::string(function->kernel->name) + " was made to fail";
        return driver::sticky = CUDA_ERROR_LAUNCH_FAILED;
    }
    const uint64_t n_threads = uint64_t{block_x} * block_y * block_z;
    const uint64_t n_blocks = uint64_t{grid_x} * grid_y * grid_z;
    if (n_blocks == 0 || grid_x > INT32_MAX || grid_y > 65535 || grid_z > 65535 || n_threads == 0 ||
        n_threads > emulator::MAX_THREADS || block_z > 64 ||
        shared_bytes > static_cast<unsigned>(function->max_dynamic_shared)) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    if (n_threads > function->kernel->max_threads) {
        return CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES;
    }
    const emulator::Shape shape{{grid_x, grid_y, grid_z}, {block_x, block_y, block_z}, shared_bytes};
    const emulator::Kernel *kernel = function->kernel;
    const char *params = static_cast<const char *>(arguments[0]);
    return driver::submit(stream, driver::Kind::Launch, kernel->name,
                          [kernel, shape, params = std::vector<char>(params, params + kernel->param_bytes),
                           session = driver::session()] {
                              if (driver::faults.strikes(driver::Fault::Trap)) {
                                  session->report = "a launch of " + std::string(kernel->name) + " was made to trap";
                                  return CUDA_ERROR_LAUNCH_FAILED;
                              }
                              return driver::run_now(*kernel, shape, params.data(), *session)
                                         ? CUDA_SUCCESS
                                         : CUDA_ERROR_LAUNCH_FAILED;
                          });
}
