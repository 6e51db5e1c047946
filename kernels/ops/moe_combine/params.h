/* Parameters of moe_combine.cu. */
#ifndef ONWARD_MOE_COMBINE_PARAMS_H
#define ONWARD_MOE_COMBINE_PARAMS_H

enum { MOE_COMBINE_THREADS = 128 };

/* The grid holds the number of rows, and in y the parts of a row. */
typedef struct MoeCombineParams {
    const float *x;         /* [n_rows · top_k, width]: a row a place */
    const float *weights;   /* [n_rows, top_k] */
    const unsigned *places; /* [n_rows, top_k] */
    float *out;             /* [n_rows, width], overlaps nothing else */
    unsigned top_k;
    unsigned width;         /* a multiple of 4 is read in 128-bit words */
    unsigned accumulate;    /* not 0: add to out instead of overwriting it */
} MoeCombineParams;

#endif
