/* A batch as kernels see it: which sequence a row belongs to and where its pages are. */
#ifndef ONWARD_BATCH_H
#define ONWARD_BATCH_H

/* Consecutive rows that belong to one sequence. */
typedef struct BatchSpan {
    unsigned first_row;
    unsigned n_rows;
    unsigned position;    /* of the first row in its sequence */
    unsigned first_entry; /* where its block table begins in BatchArrays.block_tables */
} BatchSpan;

/* Everything lies in device memory, so that the values may change from launch to launch while
 * the addresses stay. */
typedef struct BatchArrays {
    const unsigned *tokens;       /* [n_rows] */
    const unsigned *positions;    /* [n_rows] */
    const unsigned *row_spans;    /* [n_rows]: index of the span */
    const BatchSpan *spans;       /* [n_spans] */
    const unsigned *block_tables; /* page of each PAGE_TOKENS positions, span by span */
    unsigned n_rows;
    unsigned n_spans;
} BatchArrays;

#endif
