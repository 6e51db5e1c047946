/* Parameters of embed.cu. */
#ifndef ONWARD_EMBED_PARAMS_H
#define ONWARD_EMBED_PARAMS_H

enum { EMBED_THREADS = 256 };

/* One block a token. A launch has one part of a table; tokens of others are left to them. */
typedef struct EmbedParams {
    const unsigned char *quants;
    const unsigned char *scales;
    const unsigned *tokens; /* [n_tokens] */
    float *out;             /* [n_tokens, cols] */
    unsigned first_row;     /* of the part in the table */
    unsigned n_rows;        /* of the part */
    unsigned cols;
    unsigned n_steps;
    float scale;
} EmbedParams;

#endif
