// Hopper's own instructions (sm_90a): barriers in shared memory that count bytes, bulk copies, and
// the multiplication by a warpgroup. Like ptx.cuh, the only place for their assembly.
//
// Semantics by the PTX ISA 9.0. This assembly has been compiled and never been executed: only its
// emulated twin has. Kernels that use it are chosen where they give the bits of those of ptx.cuh on
// the very GPU (ops/matmul/hopper.rs, ops/attention/hopper.rs).
#pragma once

#include "device/ptx.cuh"

constexpr unsigned WARPGROUP_THREADS = 128;

// --- Barriers in shared memory ------------------------------------------------------------------

// A barrier whose phase ends once `n_arrivals` have come and all announced bytes have landed.
DEVICE void barrier_init(uint32_t barrier, unsigned n_arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(n_arrivals) : "memory");
}

// Makes barriers that this thread initialised visible to the copies.
DEVICE void barrier_init_fence() {
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

DEVICE void barrier_arrive(uint32_t barrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}

// Arrives and announces `n_bytes` that copies will bring in this phase.
DEVICE void barrier_arrive_expecting(uint32_t barrier, unsigned n_bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(n_bytes)
                 : "memory");
}

// Waits for the end of a phase: of the first with parity 0, of the second with 1, and so on. What
// the phase's copies brought is visible then.
DEVICE void barrier_wait(uint32_t barrier, unsigned parity) {
    uint32_t done = 0;
    while (done == 0) {
        asm volatile("{\n"
                     ".reg .pred p;\n"
                     "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
                     "selp.u32 %0, 1, 0, p;\n"
                     "}"
                     : "=r"(done)
                     : "r"(barrier), "r"(parity)
                     : "memory");
    }
}

// --- Copies -------------------------------------------------------------------------------------

// One thread starts to copy `n_bytes`, a multiple of 16 between addresses that are too; their
// arrival is counted at the barrier. A run of bytes needs no tensor map, and the weights' tiles,
// the packed activations and the pages of keys and values are runs.
DEVICE void copy_bulk(uint32_t shared, const void *global, unsigned n_bytes, uint32_t barrier) {
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::
                     "r"(shared),
                 "l"(__cvta_generic_to_global(global)), "r"(n_bytes), "r"(barrier)
                 : "memory");
}

// Orders ordinary stores to shared memory before tensor cores or copies that use what they wrote.
DEVICE void fence_async_proxy() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// --- Registers ----------------------------------------------------------------------------------

// Moves registers between the warpgroups of a block; all warps of a warpgroup call it.
template <unsigned N>
DEVICE void take_registers() {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(N));
}
template <unsigned N>
DEVICE void give_registers() {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(N));
}

// --- Multiplication by a warpgroup --------------------------------------------------------------

// Describes an operand in shared memory whose rows run along K, without a swizzle: 8 rows × 16
// bytes are 128 consecutive bytes, the next ones along K follow after `k_bytes`, those of the
// next 8 rows after `row_bytes`.
DEVICE uint64_t describe_operand(uint32_t address, unsigned k_bytes, unsigned row_bytes) {
    const uint64_t low = (address & 0x3ffffu) >> 4 | (k_bytes >> 4) << 16;
    return low | static_cast<uint64_t>(row_bytes >> 4) << 32;
}

// Describes an operand in panels. Rows of a panel have ROW_BYTES = 32, 64 or 128, follow one another
// and are swizzled: 16 bytes whose address has chunk number c in its lowest bits and r in bits 7 to
// 9 are the row's chunk c ^ r, of as many bits as c has; 8 rows begin at a multiple of 8 · ROW_BYTES.
// Where rows run along K, 16 elements of K begin 32 bytes after those before, and a panel holds them
// all. Where rows are along K (a `columns` multiplication), a panel has ROW_BYTES / 2 columns and the
// next one begins `panel_bytes` on.
template <unsigned ROW_BYTES>
DEVICE uint64_t describe_panel(uint32_t address, unsigned panel_bytes = 0) {
    static_assert(ROW_BYTES == 32 || ROW_BYTES == 64 || ROW_BYTES == 128, "what is swizzled");
    constexpr uint64_t SWIZZLE = ROW_BYTES == 128 ? 1 : ROW_BYTES == 64 ? 2 : 3;
    constexpr uint64_t EIGHT_ROWS = 8 * ROW_BYTES / 16;
    return (address & 0x3ffffu) >> 4 | (panel_bytes >> 4) << 16 | EIGHT_ROWS << 32 | SWIZZLE << 62;
}

// Before the first multiplication, and where registers of one were written by something else.
DEVICE void warpgroup_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }

// Ends a group of multiplications.
DEVICE void warpgroup_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }

// Waits until at most N groups are under way. Registers of those that are must not be touched.
template <int N>
DEVICE void warpgroup_wait() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory");
}

// Keeps the compiler from moving accesses to accumulators across this point.
template <int N_GROUPS>
DEVICE void hold_accumulators(float (&d)[N_GROUPS][4]) {
#pragma unroll
    for (int i = 0; i < N_GROUPS; ++i) {
        asm volatile("" : "+f"(d[i][0]), "+f"(d[i][1]), "+f"(d[i][2]), "+f"(d[i][3])::"memory");
    }
}

// The multiplications: d = a · b, plus d unless `from_zero`, for 64 × 16 and 16 × (8 · N_GROUPS)
// operands. Warp w of the warpgroup has rows 16 w … 16 w + 15 of d in the fragments of mma.m16n8k16
// (ptx.cuh), d[j] for columns 8 j … 8 j + 7. `a` is in registers, likewise, or described as `b` is.
// Rows of b in shared memory run along K, but in `columns` they are what K counts.
#define ACCUMULATORS_4(J) "+f"(d[J][0]), "+f"(d[J][1]), "+f"(d[J][2]), "+f"(d[J][3])
#define ACCUMULATORS_16(J)                                                                         \
    ACCUMULATORS_4(J), ACCUMULATORS_4(J + 1), ACCUMULATORS_4(J + 2), ACCUMULATORS_4(J + 3)
#define OUTPUTS_16 ACCUMULATORS_16(0)
#define OUTPUTS_32 OUTPUTS_16, ACCUMULATORS_16(4)
#define OUTPUTS_48 OUTPUTS_32, ACCUMULATORS_16(8)
#define OUTPUTS_64 OUTPUTS_48, ACCUMULATORS_16(12)
#define NAMES_16 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15"
#define NAMES_32 NAMES_16 ", %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define NAMES_48 NAMES_32 ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47"
#define NAMES_64 NAMES_48 ", %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"

// For N columns with N_OUT = N / 2 outputs; A0 and on are the numbers N_OUT and on.
#define FROM_REGISTERS(NAME, TYPE, N, N_OUT, A0, A1, A2, A3, B, ZERO, TRANSPOSED)                  \
    DEVICE void NAME(float (&d)[N / 8][4], const uint32_t (&a)[4], uint64_t b, bool from_zero) {   \
        asm volatile("{\n"                                                                         \
                     ".reg .pred p;\n"                                                             \
                     "setp.eq.u32 p, %" #ZERO ", 0;\n"                                             \
                     "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." TYPE "." TYPE " {" NAMES_##N_OUT \
                     "}, {%" #A0 ", %" #A1 ", %" #A2 ", %" #A3 "}, %" #B ", p, 1, 1, " #TRANSPOSED ";\n" \
                     "}"                                                                           \
                     : OUTPUTS_##N_OUT                                                             \
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b),                         \
                       "r"(static_cast<uint32_t>(from_zero))                                       \
                     : "memory");                                                                  \
    }

FROM_REGISTERS(warpgroup_mma_bf16, "bf16", 32, 16, 16, 17, 18, 19, 20, 21, 0)
FROM_REGISTERS(warpgroup_mma_bf16, "bf16", 64, 32, 32, 33, 34, 35, 36, 37, 0)
FROM_REGISTERS(warpgroup_mma_f16, "f16", 64, 32, 32, 33, 34, 35, 36, 37, 0)
FROM_REGISTERS(warpgroup_mma_bf16, "bf16", 128, 64, 64, 65, 66, 67, 68, 69, 0)
FROM_REGISTERS(warpgroup_mma_f16, "f16", 128, 64, 64, 65, 66, 67, 68, 69, 0)
FROM_REGISTERS(warpgroup_mma_bf16_columns, "bf16", 64, 32, 32, 33, 34, 35, 36, 37, 1)
FROM_REGISTERS(warpgroup_mma_bf16_columns, "bf16", 96, 48, 48, 49, 50, 51, 52, 53, 1)
FROM_REGISTERS(warpgroup_mma_bf16_columns, "bf16", 128, 64, 64, 65, 66, 67, 68, 69, 1)

DEVICE void warpgroup_mma_bf16(float (&d)[4][4], uint64_t a, uint64_t b, bool from_zero) {
    asm volatile("{\n"
                 ".reg .pred p;\n"
                 "setp.eq.u32 p, %18, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n32k16.f32.bf16.bf16 {" NAMES_16
                 "}, %16, %17, p, 1, 1, 0, 0;\n"
                 "}"
                 : OUTPUTS_16
                 : "l"(a), "l"(b), "r"(static_cast<uint32_t>(from_zero))
                 : "memory");
}

#undef FROM_REGISTERS
#undef NAMES_64
#undef NAMES_48
#undef NAMES_32
#undef NAMES_16
#undef OUTPUTS_64
#undef OUTPUTS_48
#undef OUTPUTS_32
#undef OUTPUTS_16
#undef ACCUMULATORS_16
#undef ACCUMULATORS_4
