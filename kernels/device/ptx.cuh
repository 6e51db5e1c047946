// The instructions that CUDA C++ has no name for; the only file with assembly.
//
// Semantics by the PTX ISA 9.0. A fragment's map, with g = lane / 4 and t = lane % 4: register i
// of the 16 × 16 operand A holds row g + 8 (i & 1), columns 2t + 8 (i >> 1) and the next, low
// half first; register i of the 16 × 8 operand B holds rows 2t + 8 i and the next of column g;
// value i of the 16 × 8 accumulator is row g + 8 (i >> 1), column 2t + (i & 1).
#pragma once

#include "device/kernel.cuh"

// The address in the shared window of a pointer into shared memory.
DEVICE uint32_t shared_address(const void *pointer) {
    return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

// d += a · b for 16 × 16 and 16 × 8 operands of bf16.
DEVICE void mma_bf16(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
        "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// d += a · b for 16 × 16 and 16 × 8 operands of f16.
DEVICE void mma_f16(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
        "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Four 8 × 8 matrices of 16-bit values from shared memory. Lane l gives the address of row l % 8
// of matrix l / 8; register i gets row g, columns 2t and 2t + 1 of matrix i.
DEVICE void ldmatrix_x4(uint32_t (&r)[4], uint32_t address) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
}

// As ldmatrix_x4, each matrix transposed: register i gets rows 2t and 2t + 1 of column g.
DEVICE void ldmatrix_x4_trans(uint32_t (&r)[4], uint32_t address) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
}

// Two matrices; lanes 0 to 15 give the addresses.
DEVICE void ldmatrix_x2(uint32_t (&r)[2], uint32_t address) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1])
                 : "r"(address)
                 : "memory");
}

// Starts to copy 16 bytes from global to shared memory, past L1. Of the source the first
// `n_bytes` are read, the rest of the destination becomes zero.
DEVICE void cp_async_16(uint32_t shared, const void *global, unsigned n_bytes = 16) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared),
                 "l"(__cvta_generic_to_global(global)), "r"(n_bytes)
                 : "memory");
}

// As cp_async_16 with 4 bytes, through L1.
DEVICE void cp_async_4(uint32_t shared, const void *global, unsigned n_bytes = 4) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(shared),
                 "l"(__cvta_generic_to_global(global)), "r"(n_bytes)
                 : "memory");
}

// Ends a group of this thread's copies.
DEVICE void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits until at most N groups of this thread are under way. Other threads see what was copied
// after a barrier.
template <int N>
DEVICE void cp_async_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

// A barrier among `n_threads` threads (whole warps), one of 15 beside __syncthreads (id 1 to 15).
DEVICE void named_barrier(unsigned id, unsigned n_threads) {
    asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(n_threads) : "memory");
}

// The same value, of which the compiler does not know that it is a constant: it stays in a
// register, and `(w & mask) | value` is one instruction.
DEVICE uint32_t opaque(uint32_t value) {
    asm volatile("" : "+r"(value));
    return value;
}

// The sum of two pairs of f16, each rounded once.
DEVICE uint32_t add_f16x2(uint32_t a, uint32_t b) {
    uint32_t sum;
    asm("add.rn.f16x2 %0, %1, %2;" : "=r"(sum) : "r"(a), "r"(b));
    return sum;
}

// a · b + c of three pairs of f16, each rounded once.
DEVICE uint32_t fma_f16x2(uint32_t a, uint32_t b, uint32_t c) {
    uint32_t sum;
    asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(sum) : "r"(a), "r"(b), "r"(c));
    return sum;
}
