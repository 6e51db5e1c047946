// architectures: 90a
// A kernel for each wrapper of device/ptx_hopper.cuh, as in conformance.cu: tests compare with what
// the PTX ISA says of the instruction, on a Hopper or on the emulated device.
//
// One block. Bound by nothing: each runs once, in a test.

#include "device/conformance/params.h"
#include "device/ptx_hopper.cuh"
#include "device/turn.cuh"

// 128 threads. Thread 0 copies rounds of 128 words into the same place, half by half, when all have
// read the round before. a: four rounds; out: what the neighbour's word was in each.
KERNEL(conformance_copy_bulk, ConformanceParams, WARPGROUP_THREADS, 1) {
    __shared__ __align__(16) uint32_t words[WARPGROUP_THREADS];
    __shared__ uint64_t full, empty;
    constexpr unsigned HALF = WARPGROUP_THREADS / 2;
    const unsigned thread = threadIdx.x;
    if (thread == 0) {
        barrier_init(shared_address(&full), 1);
        barrier_init(shared_address(&empty), WARPGROUP_THREADS);
        barrier_init_fence();
    }
    __syncthreads();
    Turn<1> turn;
    for (unsigned round = 0; round < 4; ++round, turn.advance()) {
        if (thread == 0) {
            barrier_wait(shared_address(&empty), turn.parity ^ 1u);
            barrier_arrive_expecting(shared_address(&full), sizeof words);
            for (unsigned first = 0; first < WARPGROUP_THREADS; first += HALF) {
                copy_bulk(shared_address(words + first), params.a + round * WARPGROUP_THREADS + first, HALF * 4,
                          shared_address(&full));
            }
        }
        barrier_wait(shared_address(&full), turn.parity);
        params.out[round * WARPGROUP_THREADS + thread] = words[thread ^ 1];
        barrier_arrive(shared_address(&empty));
    }
}

// 384 threads, as the kernels that move registers have. out: each word of a and its warpgroup.
KERNEL(conformance_move_registers, ConformanceParams, 3 * WARPGROUP_THREADS, 1) {
    const unsigned thread = threadIdx.x, group = thread / WARPGROUP_THREADS;
    if (group == 0) {
        give_registers<40>();
    } else {
        take_registers<232>();
    }
    params.out[thread] = params.a[thread] + group;
}

// Where byte `byte` of panels lies whose rows have `row_bytes`.
DEVICE unsigned swizzled(unsigned byte, unsigned row_bytes) {
    return byte ^ (byte / 128 % (row_bytes / 16)) * 16;
}

// Operands in shared memory. Each says where element (row, k) lies, of a row of operand A or a
// column of operand B, and describes itself.
template <unsigned N>
struct Cores {
    static constexpr unsigned K_BYTES = 128, EIGHT_ROWS = 256, BYTES = N / 8 * EIGHT_ROWS;
    DEVICE unsigned at(unsigned row, unsigned k) {
        return row / 8 * EIGHT_ROWS + k / 8 * K_BYTES + row % 8 * 16 + k % 8 * 2;
    }
    DEVICE uint64_t describe(uint32_t address) { return describe_operand(address, K_BYTES, EIGHT_ROWS); }
};

// The last 16 columns of a panel of rows along K.
template <unsigned N, unsigned ROW_BYTES>
struct PanelRows {
    static constexpr unsigned BYTES = N * ROW_BYTES, FIRST = ROW_BYTES - 32;
    DEVICE unsigned at(unsigned row, unsigned k) { return swizzled(row * ROW_BYTES + FIRST + k * 2, ROW_BYTES); }
    DEVICE uint64_t describe(uint32_t address) { return describe_panel<ROW_BYTES>(address + FIRST); }
};

// The last 16 rows of panels of 32 rows that K counts.
template <unsigned N, unsigned ROW_BYTES>
struct PanelColumns {
    static constexpr unsigned COLUMNS = ROW_BYTES / 2, PANEL_BYTES = 32 * ROW_BYTES;
    static constexpr unsigned BYTES = N / COLUMNS * PANEL_BYTES, FIRST = 16 * ROW_BYTES;
    DEVICE unsigned at(unsigned column, unsigned k) {
        const unsigned row = FIRST + k * ROW_BYTES;
        return swizzled(column / COLUMNS * PANEL_BYTES + row + column % COLUMNS * 2, ROW_BYTES);
    }
    DEVICE uint64_t describe(uint32_t address) { return describe_panel<ROW_BYTES>(address + FIRST, PANEL_BYTES); }
};

// Puts `n_rows` rows of 16 halves into shared memory.
template <class Operand>
DEVICE void place(const unsigned *words, unsigned n_rows, unsigned char *to) {
    for (unsigned i = threadIdx.x; i < n_rows * 16; i += WARPGROUP_THREADS) {
        const unsigned row = i / 16, k = i % 16;
        *reinterpret_cast<uint16_t *>(to + Operand::at(row, k)) = static_cast<uint16_t>(words[i / 2] >> k % 2 * 16);
    }
}

// 128 threads. a: 64 rows of 16 halves; b: N columns of 16; c: N / 2 accumulators a thread. out: the
// accumulators with the product added, then from zero.
template <unsigned N, class OperandB, class Multiply>
DEVICE void multiply_twice(const ConformanceParams &params, const Multiply &multiply) {
    __shared__ __align__(1024) unsigned char columns[OperandB::BYTES];
    place<OperandB>(params.b, N, columns);
    fence_async_proxy();
    __syncthreads();
    float d[N / 8][4];
#pragma unroll
    for (unsigned i = 0; i < N / 2; ++i) {
        d[i / 4][i % 4] = __uint_as_float(params.c[threadIdx.x * (N / 2) + i]);
    }
#pragma unroll
    for (unsigned turn = 0; turn < 2; ++turn) {
        hold_accumulators(d);
        warpgroup_fence();
        multiply(d, OperandB::describe(shared_address(columns)), turn == 1);
        warpgroup_commit();
        warpgroup_wait<0>();
        hold_accumulators(d);
#pragma unroll
        for (unsigned i = 0; i < N / 2; ++i) {
            const unsigned at = (turn * WARPGROUP_THREADS + threadIdx.x) * (N / 2) + i;
            params.out[at] = __float_as_uint(d[i / 4][i % 4]);
        }
    }
}

// With operand A in registers.
template <unsigned N, class OperandB, class Multiply>
DEVICE void multiply_registers(const ConformanceParams &params, const Multiply &multiply) {
    const unsigned lane = threadIdx.x % WARP_LANES, first_row = threadIdx.x / WARP_LANES * 16 + lane / 4;
    uint32_t a[4];
#pragma unroll
    for (unsigned i = 0; i < 4; ++i) {
        a[i] = params.a[(first_row + i % 2 * 8) * 8 + lane % 4 + i / 2 * 4];
    }
    multiply_twice<N, OperandB>(params, [&](float(&d)[N / 8][4], uint64_t b, bool from_zero) {
        multiply(d, a, b, from_zero);
    });
}

// The operand is last: it may have commas.
#define REGISTERS(NAME, N, MULTIPLY, ...)                                                                    \
    KERNEL(conformance_warpgroup_##NAME, ConformanceParams, WARPGROUP_THREADS, 1) {                          \
        multiply_registers<N, __VA_ARGS__>(params, [](float(&d)[N / 8][4], const uint32_t(&a)[4],            \
                                                      uint64_t b, bool from_zero) {                          \
            MULTIPLY(d, a, b, from_zero);                                                                    \
        });                                                                                                  \
    }

REGISTERS(bf16_n32, 32, warpgroup_mma_bf16, PanelRows<32, 64>)
REGISTERS(bf16_n64, 64, warpgroup_mma_bf16, Cores<64>)
REGISTERS(f16_n64, 64, warpgroup_mma_f16, Cores<64>)
REGISTERS(bf16_n128, 128, warpgroup_mma_bf16, Cores<128>)
REGISTERS(f16_n128, 128, warpgroup_mma_f16, Cores<128>)
REGISTERS(bf16_columns_n64, 64, warpgroup_mma_bf16_columns, PanelColumns<64, 128>)
REGISTERS(bf16_columns_n96, 96, warpgroup_mma_bf16_columns, PanelColumns<96, 64>)
REGISTERS(bf16_columns_n128, 128, warpgroup_mma_bf16_columns, PanelColumns<128, 128>)

// With operand A in shared memory.
template <unsigned ROW_BYTES>
DEVICE void multiply_shared(const ConformanceParams &params) {
    typedef PanelRows<64, ROW_BYTES> Rows;
    __shared__ __align__(1024) unsigned char rows[Rows::BYTES];
    place<Rows>(params.a, 64, rows);
    multiply_twice<32, PanelRows<32, ROW_BYTES>>(params, [&](float(&d)[4][4], uint64_t b, bool from_zero) {
        warpgroup_mma_bf16(d, Rows::describe(shared_address(rows)), b, from_zero);
    });
}

KERNEL(conformance_warpgroup_shared_128, ConformanceParams, WARPGROUP_THREADS, 1) { multiply_shared<128>(params); }
KERNEL(conformance_warpgroup_shared_64, ConformanceParams, WARPGROUP_THREADS, 1) { multiply_shared<64>(params); }
