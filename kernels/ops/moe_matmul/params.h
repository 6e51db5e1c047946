/* Parameters of the moe_matmul kernels. */
#ifndef ONWARD_MOE_MATMUL_PARAMS_H
#define ONWARD_MOE_MATMUL_PARAMS_H

#include "ops/matmul/params.h"

/* Where a block's expert and places are. */
typedef struct MoePlaces {
    const unsigned *offsets; /* [n_experts + 1]: the first place of each expert, then the end */
    const unsigned *owners;  /* [n_places]: the expert of each place */
    unsigned bias_stride;    /* values from an expert's bias to the next's */
} MoePlaces;

/* Of the kernels of tiles. */
typedef struct MoeDecodeParams {
    MatmulDecodeParams first; /* as if there were the first expert and the first place alone;
                                 n_tokens is the most that a block takes */
    MoePlaces places;
    unsigned long long quants_stride; /* bytes from an expert's integers to the next's */
    unsigned long long scales_stride; /* bytes from an expert's scales to the next's */
} MoeDecodeParams;

/* Of the kernels of tiles for many places of an expert. */
typedef struct MoePrefillParams {
    MatmulWeight weight;              /* the first expert's */
    MatmulPacked packed;              /* rows, each for itself; n_groups is not used */
    MatmulOutput output;              /* as if there were the first expert and place alone */
    MoePlaces places;
    const unsigned *rows;             /* [n_places]: the row of each place; null: its own */
    unsigned long long quants_stride; /* as above */
    unsigned long long scales_stride;
    unsigned n_experts;
} MoePrefillParams;

/* Of moe_matmul_f32.cu. */
typedef struct MoeF32Params {
    MatmulF32Params first;             /* as above */
    MoePlaces places;
    unsigned long long weights_stride; /* values from an expert's weights to the next's */
} MoeF32Params;

#endif
