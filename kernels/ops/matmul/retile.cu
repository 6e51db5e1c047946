// retile: weights in their file's blocks → tiles in fragment order (tiles.cuh), integers and scales
// unchanged.
//
// A thread makes a lane's words of one step of a tile, and the first lanes of a record its scales;
// what lies beyond the last row or column is zero. Runs once a matrix, when it is loaded: bound by
// its scattered reads of single bytes, which the caches gather.

#include "ops/matmul/codec.cuh"

template <typename Codec>
DEVICE void retile(const RetileParams &params) {
    using Bits = typename Codec::Bits;
    using Scales = typename Codec::Scales;
    // A thread's words; indexed at run time, so not in registers.
    __shared__ uint32_t words[Bits::N_WORDS][MATMUL_THREADS];
    const unsigned step = blockIdx.y, lane = threadIdx.x % WARP_LANES;
    const unsigned tile = blockIdx.x * MATMUL_WARPS + threadIdx.x / WARP_LANES;
    const unsigned first_row = tile * MATMUL_TILE_ROWS;
    if (first_row >= params.n_rows) {
        return;
    }
    const Source source = {params.source + static_cast<size_t>(first_row) * params.row_bytes,
                           params.n_rows - first_row, params.row_bytes, params.cols};
    for (unsigned word = 0; word < Bits::N_WORDS; ++word) {
        words[word][threadIdx.x] = 0;
    }
#pragma unroll 1
    for (unsigned i = 0; i < 32; ++i) {
        const Place place = {lane, i / 8, i / 2 % 4, i % 2};
        const unsigned column = step * MATMUL_STEP_COLS + column_of(place);
        const uint8_t *block = Codec::block(source, row_of(place), column);
        const uint32_t integer = block == nullptr ? 0 : Codec::integer(block, column % Codec::LEN);
        for (unsigned index = 0; index < Bits::N_RUNS; ++index) {
            const BitRun run = Bits::run(index, place);
            words[run.word][threadIdx.x] |= (integer >> run.from & ((1u << run.n_bits) - 1)) << run.at;
        }
    }
    const size_t at = static_cast<size_t>(params.first_row / MATMUL_TILE_ROWS + tile) *
                          params.n_steps + step;
    uint8_t *quants = params.quants + at * 128 * Bits::N_WORDS;
    for (unsigned word = 0; word < Bits::N_WORDS; ++word) {
        put_word(quants + word_offset(word, lane, Bits::N_WORDS), 0, words[word][threadIdx.x]);
    }
    if (Scales::RECORD_BYTES > 0 && lane < 8 && step % Scales::RECORD_STEPS == 0) {
        Codec::write_record(params.scales + at / Scales::RECORD_STEPS * Scales::RECORD_BYTES, lane,
                            source, step * MATMUL_STEP_COLS);
    }
}

// Grid: groups of MATMUL_WARPS tiles × steps. Block: MATMUL_THREADS threads.
#define RETILE(NAME, CODEC)                                                                        \
    KERNEL(retile_##NAME, RetileParams, MATMUL_THREADS, 1) { retile<CODEC>(params); }

RETILE(f16, F16Codec)
RETILE(bf16, Bf16Codec)
RETILE(q4_0, Q4_0Codec)
RETILE(q4_1, Q4_1Codec)
RETILE(q5_0, Q5_0Codec)
RETILE(q5_1, Q5_1Codec)
RETILE(q8_0, Q8_0Codec)
RETILE(q4_k, Q4_KCodec)
RETILE(q5_k, Q5_KCodec)
RETILE(q6_k, Q6_KCodec)
RETILE(f8_e4m3, F8E4M3Codec)
RETILE(mxfp4, Mxfp4Codec)
RETILE(int4_g32, Int4G32Codec)
RETILE(int4_g128, Int4G128Codec)
