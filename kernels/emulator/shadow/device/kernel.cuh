// The emulated twin of kernels/device/kernel.cuh: CUDA's words, for a host compiler.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

#include <vector_functions.h>
#include <vector_types.h>

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "emulator/machine/machine.h"

#undef __global__
#undef __device__
#undef __host__
#undef __shared__
#undef __constant__
#undef __forceinline__
#undef __launch_bounds__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline __attribute__((always_inline))
#if defined(__SANITIZE_ADDRESS__)
#define __shared__ static
#else
#define __shared__ static thread_local
#endif

#define threadIdx (emulator::current->index)
#define blockIdx (emulator::block.index)
#define blockDim (emulator::block.shape)
#define gridDim (emulator::block.grid)

#include "cuda/atomic.cuh"
#include "cuda/bits.cuh"
#include "cuda/math.cuh"
#include "cuda/warp.cuh"

#define DEVICE [[maybe_unused]] static __forceinline__
#define DEVICE_CALLED [[maybe_unused]] static __attribute__((noinline))

#define METHOD __forceinline__

// A function that the emulator finds by its name.
#define KERNEL(NAME, PARAMS, MAX_THREADS, MIN_BLOCKS)                                              \
    static void NAME(const PARAMS &params);                                                        \
    static const emulator::Registration NAME##_registration(                                       \
        {#NAME, [](const void *params) { NAME(*static_cast<const PARAMS *>(params)); },            \
         sizeof(PARAMS), MAX_THREADS});                                                            \
    static void NAME(const PARAMS &params)

constexpr unsigned WARP_LANES = 32;
constexpr unsigned FULL_WARP = 0xffffffffu;

template <typename T>
DEVICE T *dynamic_shared() {
    return reinterpret_cast<T *>(emulator::block.shared);
}
