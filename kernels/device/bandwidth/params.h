/* Parameters of the kernels beside this file. */
#ifndef ONWARD_BANDWIDTH_PARAMS_H
#define ONWARD_BANDWIDTH_PARAMS_H

/* Threads of a block. */
#define BANDWIDTH_THREADS 256

/* Any number of blocks. Packs are 16 bytes, and so are the addresses' alignments. */
typedef struct BandwidthParams {
    const unsigned *source; /* [n_packs, 4] */
    unsigned *out;          /* bandwidth_copy: [n_packs, 4]; bandwidth_read: a word a warp */
    unsigned n_packs;
} BandwidthParams;

#endif
