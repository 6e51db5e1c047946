/* Parameters of rope_append.cu. */
#ifndef ONWARD_ROPE_APPEND_PARAMS_H
#define ONWARD_ROPE_APPEND_PARAMS_H

#include "device/batch.h"
#include "device/kv.h"

enum {
    /* Heads of a row that a block takes, a warp each. */
    ROPE_APPEND_HEADS = 8,
    ROPE_APPEND_THREADS = 32 * ROPE_APPEND_HEADS
};

/* How heads of queries and keys are normalised and turned. */
typedef struct RopeNorm {
    const float *q_norm;      /* [head_dim]; null: queries are not normalised */
    const float *k_norm;      /* [head_dim]; null: keys are not normalised */
    const float *frequencies; /* [n_pairs] */
    unsigned n_pairs;         /* pairs of a head that turn, at most head_dim / 2 */
    unsigned adjacent;        /* not 0: elements 2j and 2j + 1 pair up, else j and j + n_pairs */
    float epsilon;
    float attention_factor;
} RopeNorm;

typedef struct RopeAppendParams {
    float *qkv; /* [n_rows, (n_heads + 2 n_kv_heads) · head_dim] */
    RopeNorm rope;
    BatchArrays batch;
    KvLayer kv;
    unsigned n_heads;
    unsigned n_kv_heads;
} RopeAppendParams;

#endif
