// A kernel for each wrapper of device/ptx.cuh and device/memory.cuh, and for the functions that
// kernels share, which applies it to given words: tests compare with what the PTX ISA or the
// function's source says, on a GPU or on the emulated device.
//
// One block. Bound by nothing: each runs once, in a test.

#include "device/conformance/params.h"
#include "device/fixed.cuh"
#include "device/memory.cuh"
#include "device/philox.cuh"
#include "device/ptx.cuh"
#include "device/reduce.cuh"
#include "device/scan.cuh"

constexpr unsigned CONFORMANCE_THREADS = 128;
// What shared memory holds before a copy.
constexpr unsigned UNWRITTEN = 0xdeadbeefu;

template <bool BF16>
DEVICE void multiply(const ConformanceParams &params) {
    const unsigned lane = threadIdx.x;
    uint32_t a[4];
    float d[4];
#pragma unroll
    for (unsigned i = 0; i < 4; ++i) {
        a[i] = params.a[lane * 4 + i];
        d[i] = __uint_as_float(params.c[lane * 4 + i]);
    }
    const uint32_t b0 = params.b[lane * 2], b1 = params.b[lane * 2 + 1];
    if (BF16) {
        mma_bf16(d, a, b0, b1);
    } else {
        mma_f16(d, a, b0, b1);
    }
#pragma unroll
    for (unsigned i = 0; i < 4; ++i) {
        params.out[lane * 4 + i] = __float_as_uint(d[i]);
    }
}

// 32 threads. a: 4 words of operand A a lane; b: 2 of B; c and out: 4 of the accumulator.
KERNEL(conformance_mma_bf16, ConformanceParams, WARP_LANES, 1) { multiply<true>(params); }
KERNEL(conformance_mma_f16, ConformanceParams, WARP_LANES, 1) { multiply<false>(params); }

// Puts 32 rows of 16 bytes into shared memory; the address of the row that `b` gives this lane.
DEVICE uint32_t place_rows(const ConformanceParams &params, uint32_t (&rows)[WARP_LANES][4]) {
    const unsigned lane = threadIdx.x;
#pragma unroll
    for (unsigned i = 0; i < 4; ++i) {
        rows[lane][i] = params.a[lane * 4 + i];
    }
    __syncthreads();
    return shared_address(rows[params.b[lane]]);
}

template <unsigned N>
DEVICE void store_words(const ConformanceParams &params, const uint32_t (&words)[N]) {
#pragma unroll
    for (unsigned i = 0; i < N; ++i) {
        params.out[threadIdx.x * N + i] = words[i];
    }
}

// 32 threads. a: 4 words a row; b: each lane's row; out: the registers of each lane.
KERNEL(conformance_ldmatrix_x4, ConformanceParams, WARP_LANES, 1) {
    __shared__ __align__(16) uint32_t rows[WARP_LANES][4];
    uint32_t words[4];
    ldmatrix_x4(words, place_rows(params, rows));
    store_words(params, words);
}

KERNEL(conformance_ldmatrix_x4_trans, ConformanceParams, WARP_LANES, 1) {
    __shared__ __align__(16) uint32_t rows[WARP_LANES][4];
    uint32_t words[4];
    ldmatrix_x4_trans(words, place_rows(params, rows));
    store_words(params, words);
}

KERNEL(conformance_ldmatrix_x2, ConformanceParams, WARP_LANES, 1) {
    __shared__ __align__(16) uint32_t rows[WARP_LANES][4];
    uint32_t words[2];
    ldmatrix_x2(words, place_rows(params, rows));
    store_words(params, words);
}

// 128 threads, N words each. a: the source; b: how many bytes of it to read; out: what the
// neighbour finds after the wait and the barrier.
template <unsigned N>
DEVICE void copy_async(const ConformanceParams &params, uint32_t (&words)[CONFORMANCE_THREADS][N]) {
    const unsigned thread = threadIdx.x;
#pragma unroll
    for (unsigned i = 0; i < N; ++i) {
        words[thread][i] = UNWRITTEN;
    }
    __syncthreads();
    const uint32_t target = shared_address(words[thread]);
    if (N == 4) {
        cp_async_16(target, params.a + thread * N, params.b[thread]);
    } else {
        cp_async_4(target, params.a + thread * N, params.b[thread]);
    }
    cp_async_commit();
    cp_async_wait<0>();
    __syncthreads();
    store_words(params, words[thread ^ 1]);
}

KERNEL(conformance_cp_async_16, ConformanceParams, CONFORMANCE_THREADS, 1) {
    __shared__ __align__(16) uint32_t words[CONFORMANCE_THREADS][4];
    copy_async(params, words);
}

KERNEL(conformance_cp_async_4, ConformanceParams, CONFORMANCE_THREADS, 1) {
    __shared__ uint32_t words[CONFORMANCE_THREADS][1];
    copy_async(params, words);
}

// 128 threads. a: a word a thread for each of three groups; out: the first two, read when at most
// one group is under way, then the third.
KERNEL(conformance_cp_async_groups, ConformanceParams, CONFORMANCE_THREADS, 1) {
    __shared__ uint32_t words[3][CONFORMANCE_THREADS];
    const unsigned thread = threadIdx.x;
    for (unsigned group = 0; group < 3; ++group) {
        words[group][thread] = UNWRITTEN;
    }
    for (unsigned group = 0; group < 3; ++group) {
        cp_async_4(shared_address(&words[group][thread]), params.a + group * CONFORMANCE_THREADS + thread);
        cp_async_commit();
    }
    cp_async_wait<1>();
    params.out[thread] = words[0][thread];
    params.out[CONFORMANCE_THREADS + thread] = words[1][thread];
    cp_async_wait<0>();
    params.out[2 * CONFORMANCE_THREADS + thread] = words[2][thread];
}

// 128 threads. The warps of a pair pass words to each other, one pair in four rounds at barrier 1
// and one in eight at barrier 15. a: a word a thread; out: the sum of what it got.
KERNEL(conformance_named_barrier, ConformanceParams, CONFORMANCE_THREADS, 1) {
    __shared__ uint32_t words[CONFORMANCE_THREADS];
    const unsigned thread = threadIdx.x, pair = thread / (2 * WARP_LANES);
    const unsigned id = pair == 0 ? 1 : 15, n_rounds = pair == 0 ? 4 : 8;
    unsigned sum = 0;
    for (unsigned round = 0; round < n_rounds; ++round) {
        words[thread] = params.a[thread] + round;
        named_barrier(id, 2 * WARP_LANES);
        sum += words[thread ^ WARP_LANES];
        named_barrier(id, 2 * WARP_LANES);
    }
    params.out[thread] = sum;
}

// 32 threads, a word each.
KERNEL(conformance_opaque, ConformanceParams, WARP_LANES, 1) {
    params.out[threadIdx.x] = opaque(params.a[threadIdx.x]);
}

// 128 threads, a pair of f16 each in a, b and c: a + b, then a · b + c.
KERNEL(conformance_f16x2, ConformanceParams, 128, 1) {
    const unsigned i = threadIdx.x;
    params.out[2 * i] = add_f16x2(params.a[i], params.b[i]);
    params.out[2 * i + 1] = fma_f16x2(params.a[i], params.b[i], params.c[i]);
}

template <int N, typename T>
DEVICE void reverse_pack(const ConformanceParams &params) {
    const size_t first = threadIdx.x * N;
    const auto pack = load_pack<N>(reinterpret_cast<const T *>(params.a) + first);
    Pack<T, N> reversed;
#pragma unroll
    for (int i = 0; i < N; ++i) {
        reversed.lane[i] = pack.lane[N - 1 - i];
    }
    store_pack<N>(reinterpret_cast<T *>(params.out) + first, reversed);
}

// 32 threads, a pack each, of which out has the values in reverse.
KERNEL(conformance_pack_words_4, ConformanceParams, WARP_LANES, 1) { reverse_pack<4, float>(params); }
KERNEL(conformance_pack_words_2, ConformanceParams, WARP_LANES, 1) { reverse_pack<2, uint32_t>(params); }
KERNEL(conformance_pack_halves_8, ConformanceParams, WARP_LANES, 1) { reverse_pack<8, uint16_t>(params); }

// 32 threads. a: 4 words each; out: their first by one load, then all of them by another.
KERNEL(conformance_streaming, ConformanceParams, WARP_LANES, 1) {
    const unsigned lane = threadIdx.x;
    params.out[lane * 5] = load_streaming_word(params.a + lane * 4);
    const uint4 words = load_streaming(params.a + lane * 4);
    params.out[lane * 5 + 1] = words.x;
    params.out[lane * 5 + 2] = words.y;
    params.out[lane * 5 + 3] = words.z;
    params.out[lane * 5 + 4] = words.w;
}

DEVICE unsigned long long long_word(const unsigned *words) {
    return words[0] | static_cast<unsigned long long>(words[1]) << 32;
}

DEVICE void put_long_word(unsigned *words, unsigned long long value) {
    words[0] = static_cast<unsigned>(value);
    words[1] = static_cast<unsigned>(value >> 32);
}

// 32 threads. a: a counter of 4 words each; b: a key of 2; out: the 4 random words, then the noise
// of the key as seed and the counter's first words as position, low word first as everywhere.
KERNEL(conformance_philox, ConformanceParams, WARP_LANES, 1) {
    const unsigned *a = params.a + threadIdx.x * 4, *b = params.b + threadIdx.x * 2;
    unsigned *out = params.out + threadIdx.x * 6;
    const PhiloxWords random = philox4x32({{a[0], a[1], a[2], a[3]}}, b[0], b[1]);
    for (unsigned i = 0; i < 4; ++i) {
        out[i] = random.word[i];
    }
    put_long_word(out + 4, philox_noise(long_word(b), long_word(a)));
}

// 128 threads, a number each. out: its weight, exp(x) · 2^24, its key and the logit of that.
KERNEL(conformance_weight, ConformanceParams, CONFORMANCE_THREADS, 1) {
    const float x = __uint_as_float(params.a[threadIdx.x]);
    unsigned *out = params.out + threadIdx.x * 5;
    put_long_word(out, weight(x));
    out[2] = __float_as_uint(scaled_exp(x, 24));
    out[3] = order_key(x);
    out[4] = __float_as_uint(logit_of_key(out[3]));
}

// 128 threads. a: a share each; b: a total and noise; out: the share's mass and the point.
KERNEL(conformance_share, ConformanceParams, CONFORMANCE_THREADS, 1) {
    const float share = __uint_as_float(params.a[threadIdx.x]);
    const Mass total = long_word(params.b + threadIdx.x * 4);
    unsigned *out = params.out + threadIdx.x * 4;
    put_long_word(out, share_of(share, total));
    put_long_word(out + 2, point_in(total, long_word(params.b + threadIdx.x * 4 + 2)));
}

// 128 threads. a: a number each; b: a mass each; out: the numbers' sum over the warp and over the
// block, the masses' over the threads below and over the block.
KERNEL(conformance_sums, ConformanceParams, CONFORMANCE_THREADS, 1) {
    __shared__ float scratch[WARP_LANES];
    __shared__ unsigned long long mass_scratch[WARP_LANES];
    const float number = __uint_as_float(params.a[threadIdx.x]);
    unsigned *out = params.out + threadIdx.x * 6;
    out[0] = __float_as_uint(warp_sum(number));
    out[1] = __float_as_uint(block_sum(number, scratch));
    const BlockPrefix prefix = block_prefix(long_word(params.b + threadIdx.x * 2), mass_scratch);
    put_long_word(out + 2, prefix.before);
    put_long_word(out + 4, prefix.total);
}
