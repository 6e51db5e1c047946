/* Parameters of gated.cu. */
#ifndef ONWARD_GATED_PARAMS_H
#define ONWARD_GATED_PARAMS_H

enum { GATED_THREADS = 128 };

/* The function applied to the gate. */
enum { GATED_SILU = 0, GATED_GELU_TANH = 1 };

/* The grid holds the number of rows, and in y the parts of a row. */
typedef struct GatedParams {
    const float *gate_up; /* [n_rows, 2, width]: gate, then up */
    float *out;           /* [n_rows, width], does not overlap gate_up */
    unsigned width;       /* a multiple of 4 is read in 128-bit words */
    unsigned activation;  /* GATED_SILU or GATED_GELU_TANH */
} GatedParams;

#endif
