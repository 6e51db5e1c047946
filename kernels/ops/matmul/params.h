/* Parameters of the matmul kernels, and the sizes that the host and the kernels share. The
 * layouts are drawn in tiles.cuh. */
#ifndef ONWARD_MATMUL_PARAMS_H
#define ONWARD_MATMUL_PARAMS_H

enum {
    MATMUL_WARPS = 8,          /* of a block */
    MATMUL_THREADS = 256,      /* of a block */
    MATMUL_TILE_ROWS = 16,     /* weight rows of a tile, the M side of an mma */
    MATMUL_STEP_COLS = 64,     /* columns of a step: four mma of 16 */
    MATMUL_GROUP_TOKENS = 8,   /* the N side of an mma; a decode kernel takes as many tokens */
    MATMUL_DECODE_DEPTH = 8,   /* steps under way in a decode kernel: at most, and a multiple */
    MATMUL_STAGES = 4,         /* steps under way in a prefill kernel */
    MATMUL_MAX_SLICES = 8      /* parts of the sum over the columns: at most a warp each */
};

/* Bytes that a tile takes for a step, and the steps that share a record of scales. */
enum {
    MATMUL_HALF_STEP_BYTES = 2048, /* F16 and BF16 */
    MATMUL_BYTES_STEP_BYTES = 1024,    /* Q8_0, F8_E4M3 */
    MATMUL_NIBBLES_STEP_BYTES = 512,   /* Q4_0, Q4_1, Q4_K, MXFP4, INT4 */
    MATMUL_FIVE_BITS_STEP_BYTES = 640, /* Q5_0, Q5_1, Q5_K */
    MATMUL_Q6_K_STEP_BYTES = 768
};
enum {
    MATMUL_SCALE_RECORD_BYTES = 64,      /* Q4_0, Q5_0, Q8_0: a record a step */
    MATMUL_MINIMUM_RECORD_BYTES = 128,   /* Q4_1, Q5_1: a record a step */
    MATMUL_K_QUANT_RECORD_BYTES = 256,   /* Q4_K, Q5_K: a record every four steps */
    MATMUL_Q6_K_RECORD_BYTES = 288,      /* every four steps */
    MATMUL_EXPONENT_RECORD_BYTES = 32,   /* MXFP4: a record a step */
    MATMUL_ZERO_RECORD_BYTES = 96,       /* INT4_G32: a record a step */
    MATMUL_WIDE_ZERO_RECORD_BYTES = 64,  /* INT4_G128: a record every two steps */
    MATMUL_WIDE_ZERO_STEPS = 2,
    MATMUL_SUPER_BLOCK_STEPS = 4
};

/* Of the kernels for many tokens on Hopper, hopper.cuh. */
enum {
    MATMUL_HOPPER_THREADS = 384,         /* a warpgroup copies, two multiply */
    MATMUL_HOPPER_TILES = 8,             /* of a block: a warp each */
    MATMUL_HOPPER_GROUPS = 8,            /* of eight tokens, of a block */
    MATMUL_HOPPER_FLOAT_GROUPS = 16,     /* likewise where nothing is scaled */
    MATMUL_HOPPER_MAX_STAGES = 8,
    MATMUL_HOPPER_SHARED_BYTES = 231424  /* 226 KiB: barriers and stages */
};

/* A matrix of one format in tiles. */
typedef struct MatmulWeight {
    const unsigned char *quants; /* [n_tiles, n_steps, step bytes] */
    const unsigned char *scales; /* [n_tiles, n_steps / steps a record, record bytes] */
    unsigned n_rows;             /* output features */
    unsigned n_tiles;            /* of MATMUL_TILE_ROWS rows */
    unsigned n_steps;            /* of MATMUL_STEP_COLS columns, zeros behind the last */
    unsigned slice_bits;         /* 2^slice_bits slices: each sums up a part of the steps */
    /* Where each begins, and behind the last the number of steps: multiples of a record's. */
    unsigned slice_starts[MATMUL_MAX_SLICES + 1];
} MatmulWeight;

/* Activations in f32 and what is done to them on their way into the tensor core. */
typedef struct MatmulInput {
    const float *x;               /* [rows of x, cols] */
    const unsigned *rows;         /* [n_tokens]: the rows to take; null: the first */
    const float *norm_weight;     /* [cols]; null: no norm */
    float epsilon;                /* of the norm */
    unsigned n_tokens;
    unsigned cols;
} MatmulInput;

/* Activations as fragments of the tensor core, see activations.cuh; where any tokens may be put
 * together each for itself, [n_tokens][n_blocks][4 shares][4] and sums [n_tokens][n_blocks]; on
 * Hopper in cores,
 * [n_blocks / 2][n_groups][2 blocks][4 cores of 8 columns][8 tokens][8 columns], and the sums
 * likewise, [n_blocks / 2][n_groups][2 blocks][8 tokens]. */
typedef struct MatmulPacked {
    unsigned *fragments; /* [n_groups, n_blocks, 32 lanes, 4] */
    unsigned *sums;      /* [n_groups, n_blocks, MATMUL_GROUP_TOKENS] */
    float *factors;      /* [n_groups, MATMUL_GROUP_TOKENS]: what a product is multiplied by */
    unsigned n_groups;   /* of MATMUL_GROUP_TOKENS tokens */
    unsigned n_blocks;   /* of 32 columns, zeros behind the last */
} MatmulPacked;

/* What is done to a product and where it goes, with y = cap(scale · product + bias[row]):
 * out[token, first + row] = y (+ what is there). With gates, which are the first half of the rows:
 * out[token, first + row] = activation(y) · (y of row + MATMUL_TILE_ROWS · n_gate_tiles) (+ …). */
typedef struct MatmulOutput {
    float *out;          /* [n_tokens, width] */
    const float *bias;   /* [n_rows]; null: none */
    unsigned width;
    unsigned first;      /* the column of the weight's first row */
    float scale;
    float soft_cap;      /* 0: none */
    unsigned accumulate; /* not 0: add to out */
    unsigned n_gate_tiles; /* half of the weight's; 0: no gates */
    unsigned activation;   /* of gates: GATED_SILU or GATED_GELU_TANH */
} MatmulOutput;

/* Of the decode kernels, which pack the activations themselves. */
typedef struct MatmulDecodeParams {
    MatmulWeight weight;
    MatmulInput input;
    MatmulOutput output;
    unsigned longest_slice; /* in steps */
    unsigned pass_steps; /* steps of each slice whose activations are in shared memory at a time */
} MatmulDecodeParams;

/* Of the prefill kernels. */
typedef struct MatmulPrefillParams {
    MatmulWeight weight;
    MatmulPacked packed;
    MatmulOutput output;
    unsigned n_tokens;
} MatmulPrefillParams;

/* Of matmul_pack.cu: one block a token, those behind the last become zeros. */
typedef struct MatmulPackParams {
    MatmulInput input;
    MatmulPacked packed;
} MatmulPackParams;

/* Of matmul_f32.cu, which has no norm. */
typedef struct MatmulF32Params {
    const float *weights; /* [n_rows, cols] */
    MatmulInput input;
    MatmulOutput output;
    unsigned n_rows;
} MatmulF32Params;

/* Of matmul_gate.cu: out = activation(products[:, :width]) · products[:, width:] (+ out). */
typedef struct MatmulGateParams {
    const float *products; /* [n_tokens, 2, width] */
    float *out;            /* [n_tokens, width] */
    unsigned width;
    unsigned activation;   /* GATED_SILU or GATED_GELU_TANH */
    unsigned accumulate;   /* not 0: add to out */
} MatmulGateParams;

/* Of retile.cu. The source holds n_rows rows in the format's own blocks; the first becomes row
 * first_row of the tiles. */
typedef struct RetileParams {
    const unsigned char *source;
    unsigned char *quants;
    unsigned char *scales;
    unsigned row_bytes;
    unsigned n_rows;
    unsigned first_row; /* a multiple of MATMUL_TILE_ROWS */
    unsigned cols;
    unsigned n_steps;
} RetileParams;

#endif
