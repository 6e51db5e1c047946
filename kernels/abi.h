/* What the host hands to a CUDA kernel: one plain struct per kernel, passed by value as the
 * kernel's only parameter. The build turns this file into Rust types with bindgen, checks their
 * layout with the host's C and C++ compilers, and the kernels include it as it is: an argument
 * that drifts on one side does not compile.
 *
 * Written in the C that C, C++ and CUDA share, without includes. Pointers are device addresses.
 */
#ifndef ONWARD_ABI_H
#define ONWARD_ABI_H

/* Threads of an rms_norm block at most; the launch takes fewer for short rows. */
enum { RMS_NORM_MAX_THREADS = 512 };

/* ops/rms_norm: one block a row, so the grid holds the number of rows. */
typedef struct RmsNormParams {
    const float *x;      /* [n_rows, width] */
    const float *weight; /* [width] */
    float *out;          /* [n_rows, width], overlaps neither */
    unsigned width;      /* row length; a multiple of 4 is read in 128-bit words */
    float epsilon;       /* added to the mean square */
    unsigned accumulate; /* not 0: add to out instead of overwriting it */
} RmsNormParams;

#endif
