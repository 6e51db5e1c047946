/* Parameters of attention_decode.cu, attention_prefill.cu and attention_hopper.cu. */
#ifndef ONWARD_ATTENTION_PARAMS_H
#define ONWARD_ATTENTION_PARAMS_H

#include "device/batch.h"
#include "device/kv.h"
#include "ops/rope_append/params.h"

enum {
    /* Pages of a split, whose positions are attended to from an empty state. */
    ATTENTION_SPLIT_PAGES = 8,
    /* Rows of a span up to which it is decoded: split by split, each in a block of its own. */
    ATTENTION_DECODE_ROWS = 16,
    /* Query lines that share a tensor core operand. */
    ATTENTION_LINES = 16
};

/* Of the kernels for Hopper, hopper.cuh. */
enum {
    ATTENTION_HOPPER_THREADS = 384,       /* a warpgroup copies, two multiply */
    ATTENTION_HOPPER_STAGES = 4,          /* pages in shared memory */
    ATTENTION_HOPPER_BARRIER_BYTES = 1024 /* before them; what follows is aligned to as much */
};

typedef struct AttentionParams {
    const float *qkv; /* [n_rows, (n_heads + 2 n_kv_heads) · head_dim]; where the launch appends, as
                         the product left it, else after rope_append */
    float *out;       /* [n_rows, n_heads · head_dim] */
    BatchArrays batch;
    KvLayer kv;
    unsigned n_heads;
    unsigned n_kv_heads;
    unsigned window; /* positions that a row sees back from its own */
    unsigned block;  /* a row sees up to the end of its block of so many positions */
    /* score = outer · tanh(inner · q·k), or outer · q·k where inner is 0; in powers of two */
    float inner;
    float outer;
    /* Of the splits of decoded spans, [slots, decode_rows, n_heads]: */
    float *sums;          /* [.., width]: weighted sums of the values */
    float *totals;        /* [.., 2]: the reference score, the sum of the weights */
    unsigned *n_done;     /* [n_spans, n_kv_heads, line_tiles]: splits that have a state; 0 at rest */
    unsigned decode_rows; /* rows of a slot, no fewer than any decoded span has */
    unsigned line_tiles;  /* blocks that a decoded span's lines take */
    unsigned appends;     /* not 0: every span has one row, whose key and value are yet to be stored */
    RopeNorm rope;        /* how queries and new keys are prepared on the way; nothing, if not so */
} AttentionParams;

#endif
