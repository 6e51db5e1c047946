/* The stored keys and values of one layer, as kernels see them; told in device/kv.cuh. */
#ifndef ONWARD_KV_H
#define ONWARD_KV_H

enum {
    KV_PAGE_TOKENS = 32,
    /* Elements of the widest stored head. */
    KV_MAX_WIDTH = 256
};

typedef struct KvLayer {
    unsigned char *pages;          /* where the layer begins in page 0; aligned to 16 */
    unsigned long long page_bytes; /* from a page to the next */
    unsigned head_bytes;           /* from a head of a page to the next */
    unsigned head_dim;             /* elements of a head, a multiple of 8 */
    unsigned width;                /* elements of a stored head: head_dim and zeros, a multiple of 16 */
    unsigned eight_bit;            /* not 0: integers of 8 bits with scales, else bf16 */
} KvLayer;

#endif
