/* Parameters of rms_norm.cu. */
#ifndef ONWARD_RMS_NORM_PARAMS_H
#define ONWARD_RMS_NORM_PARAMS_H

/* Threads of an rms_norm block at most; the launch takes fewer for short rows. */
enum { RMS_NORM_MAX_THREADS = 512 };

/* One block a row, so the grid holds the number of rows. */
typedef struct RmsNormParams {
    const float *x;      /* [n_rows, width] */
    const float *weight; /* [width] */
    float *out;          /* [n_rows, width], overlaps neither */
    unsigned width;      /* row length; a multiple of 4 is read in 128-bit words */
    float epsilon;       /* added to the mean square */
    unsigned accumulate; /* not 0: add to out instead of overwriting it */
} RmsNormParams;

#endif
