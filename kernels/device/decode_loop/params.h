/* Parameters of decode_loop.cu. */
#ifndef ONWARD_DECODE_LOOP_PARAMS_H
#define ONWARD_DECODE_LOOP_PARAMS_H

#include "ops/sample/params.h"

enum { DECODE_LOOP_THREADS = 32 };

/* How far the loop has come, in device memory. The counts go on beyond 2^32 from 0. */
typedef struct DecodeLoop {
    unsigned n_left;  /* steps of this run that may still begin; the host says how many before it */
    unsigned n_runs;  /* runs that have begun */
    unsigned n_steps; /* steps that are done, of all runs */
    unsigned unused;
} DecodeLoop;

typedef struct DecodeLoopParams {
    unsigned long long condition; /* the handle of the WHILE node's condition */
    DecodeLoop *state;
    /* In pinned memory of the host: */
    const unsigned *n_halted; /* runs in which no further step is to begin */
    unsigned *n_steps;        /* DecodeLoop.n_steps for the host */

    const SampleSlot *slots;
    const unsigned *row_slots; /* [n_rows]: the slot of a row, or SAMPLE_IDLE */
    unsigned n_rows;
    unsigned unused;
} DecodeLoopParams;

#endif
