// embed: out = scale · table[token], rows read back from a matrix's tiles (tiles.cuh); formula in
// mod.rs.
//
// A block a token. Reads every second 32-byte sector's half of 16 rows' tiles: a row of a table
// costs twice its bytes, little beside what a layer reads.

#include "ops/embed/params.h"
#include "ops/matmul/codec.cuh"

template <typename Codec>
DEVICE void embed(const EmbedParams &params) {
    using Bits = typename Codec::Bits;
    using Scales = typename Codec::Scales;
    const unsigned token = params.tokens[blockIdx.x];
    if (token - params.first_row >= params.n_rows) {
        return;
    }
    const unsigned row = token - params.first_row, in_tile = row % MATMUL_TILE_ROWS;
    const size_t first_step = static_cast<size_t>(row / MATMUL_TILE_ROWS) * params.n_steps;
    float *out = params.out + static_cast<size_t>(blockIdx.x) * params.cols;
    for (unsigned column = threadIdx.x; column < params.cols; column += blockDim.x) {
        const size_t step = first_step + column / MATMUL_STEP_COLS;
        const uint8_t *quants = params.quants + step * 128 * Bits::N_WORDS;
        const Place place = place_of(in_tile, column % MATMUL_STEP_COLS);
        uint32_t integer = 0;
        for (unsigned index = 0; index < Bits::N_RUNS; ++index) {
            const BitRun run = Bits::run(index, place);
            const uint32_t word = *reinterpret_cast<const uint32_t *>(
                quants + word_offset(run.word, place.lane, Bits::N_WORDS));
            integer |= (word >> run.at & ((1u << run.n_bits) - 1)) << run.from;
        }
        const uint8_t *record =
            params.scales + step / Scales::RECORD_STEPS * Scales::RECORD_BYTES;
        const unsigned in_record = column % (Scales::RECORD_STEPS * MATMUL_STEP_COLS);
        out[column] = Codec::value(integer, record, in_tile, in_record) * params.scale;
    }
}

// Grid: a block a token. Block: EMBED_THREADS threads.
#define EMBED(NAME, CODEC)                                                                         \
    KERNEL(embed_##NAME, EmbedParams, EMBED_THREADS, 1) { embed<CODEC>(params); }

EMBED(f16, F16Codec)
EMBED(bf16, Bf16Codec)
EMBED(q4_0, Q4_0Codec)
EMBED(q4_1, Q4_1Codec)
EMBED(q5_0, Q5_0Codec)
EMBED(q5_1, Q5_1Codec)
EMBED(q8_0, Q8_0Codec)
EMBED(q4_k, Q4_KCodec)
EMBED(q5_k, Q5_KCodec)
EMBED(q6_k, Q6_KCodec)
EMBED(f8_e4m3, F8E4M3Codec)
EMBED(mxfp4, Mxfp4Codec)
EMBED(int4_g32, Int4G32Codec)
EMBED(int4_g128, Int4G128Codec)

// F32 rows lie as they are.
KERNEL(embed_f32, EmbedParams, EMBED_THREADS, 1) {
    const unsigned row = params.tokens[blockIdx.x] - params.first_row;
    if (row < params.n_rows) {
        const float *values = reinterpret_cast<const float *>(params.quants) +
                              static_cast<size_t>(row) * params.cols;
        float *out = params.out + static_cast<size_t>(blockIdx.x) * params.cols;
        for (unsigned column = threadIdx.x; column < params.cols; column += blockDim.x) {
            out[column] = values[column] * params.scale;
        }
    }
}
