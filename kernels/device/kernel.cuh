// What every kernel source begins with: the types of CUDA and the way to define a kernel. The
// parameter structs are in params.h of each operation, which its sources include; none includes
// abi.h, which would have them all compiled again for an edit of any.
#pragma once

#include <cstddef>
#include <cstdint>

#include <cuda_bf16.h>
#include <cuda_fp16.h>

// A function of the device; always inlined, so that arrays it is given stay in registers.
#define DEVICE static __device__ __forceinline__

// A function of the device that is called, not inlined: for the rare branch of a loop.
#define DEVICE_CALLED static __device__ __noinline__

// A member function of a struct on the device, likewise; DEVICE makes a static one.
#define METHOD __device__ __forceinline__

// Defines the kernel NAME. It takes one struct of a params.h, which its body calls `params`; blocks
// have at most MAX_THREADS threads, and registers are allotted so that MIN_BLOCKS of them fit
// on a multiprocessor.
#define KERNEL(NAME, PARAMS, MAX_THREADS, MIN_BLOCKS)                                              \
    extern "C" __global__ void __launch_bounds__(MAX_THREADS, MIN_BLOCKS)                          \
        NAME(const __grid_constant__ PARAMS params)

constexpr unsigned WARP_LANES = 32;
constexpr unsigned FULL_WARP = 0xffffffffu;

// The dynamic shared memory of the block, as many bytes as the launch asked for, aligned to
// 1024.
template <typename T>
DEVICE T *dynamic_shared() {
    extern __shared__ __align__(1024) unsigned char dynamic_shared_bytes[];
    return reinterpret_cast<T *>(dynamic_shared_bytes);
}
