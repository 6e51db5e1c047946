/* Parameters of sample.cu: what lies in device memory from step to step, and what one step gets. */
#ifndef ONWARD_SAMPLE_PARAMS_H
#define ONWARD_SAMPLE_PARAMS_H

#include "device/batch.h"

enum {
    SAMPLE_THREADS = 256,
    SAMPLE_TILE = 8192,     /* tokens that a block reads in a pass */
    SAMPLE_MAX_TILES = 128, /* so a vocabulary has at most 2^20 tokens */
    SAMPLE_MAX_TOP = 256,
    SAMPLE_MAX_STOPS = 8,
    SAMPLE_BUCKETS = 2048, /* eleven bits of a key */
    SAMPLE_KEYS = 1024,    /* the ten bits that two such steps leave */
    SAMPLE_SHARED_BYTES = 34304
};

/* Row of no sequence: nothing is drawn. */
enum { SAMPLE_IDLE = 0xFFFFFFFF };

/* SampleSlot.flags. */
enum { SAMPLE_GREEDY = 1, SAMPLE_PENALISES = 2, SAMPLE_BIASES = 4, SAMPLE_MASKS = 8 };

/* SampleOutput.status: what keeps a row from being drawn, the first that holds. */
enum {
    SAMPLE_DRAWN = 0,
    SAMPLE_RAW_NOT_FINITE = 1, /* a logit is NaN or +inf */
    SAMPLE_RAW_FORBIDDEN = 2,  /* all logits are −inf */
    SAMPLE_NOT_FINITE = 3,     /* a logit becomes NaN or +inf by penalties and biases */
    SAMPLE_FORBIDDEN = 4       /* biases and the mask leave nothing */
};

/* One sequence: its parameters, and how far it has come. The host writes it when the sequence
 * begins; each step moves it on. */
typedef struct SampleSlot {
    unsigned long long seed;
    unsigned long long position; /* of the token drawn next */
    unsigned long long least;    /* the least weight that min-p keeps, at least 1 */
    float scale;                 /* 1 / temperature */
    float top_p;
    float negligible;     /* scaled logit below the maximum from which on no nucleus reaches */
    float repeat_penalty; /* used if flags say so, as the next two */
    float frequency_penalty;
    float presence_penalty;
    unsigned window;    /* tokens that the penalties look back on */
    unsigned top_k;     /* 0: all */
    unsigned n_top;     /* most probable tokens to list */
    unsigned n_biases;
    unsigned flags;
    unsigned n_history; /* tokens behind, at least those in the window */
    unsigned n_drawn;   /* outputs so far: number i is at i % ring_length */
    unsigned n_left;    /* tokens that may still be drawn */
    unsigned is_live;   /* 0: steps pass the slot by */
    unsigned n_stops;
    unsigned stops[SAMPLE_MAX_STOPS]; /* tokens that finish the sequence */
    unsigned unused[2];               /* to a multiple of 16 bytes, as all that is copied whole */
} SampleSlot;

typedef struct SampleBias {
    unsigned token;
    float bias;
} SampleBias;

/* What a row gave. Its log-probability is (logit − max) − ln(mass / 2^40). */
typedef struct SampleOutput {
    unsigned long long mass; /* of all raw logits at temperature 1 */
    unsigned token;          /* drawn, or the first one concerned by an error */
    unsigned status;
    float logit; /* the token's raw logit, or the broken value */
    float max;   /* the greatest raw logit */
    unsigned n_top;
    unsigned unused;
} SampleOutput;

typedef struct SampleTop {
    unsigned token;
    float logit;
} SampleTop;

/* A search for a key from its high bits down. */
typedef struct SampleSearch {
    unsigned long long missing; /* tokens or mass still to be found in the bucket */
    unsigned prefix;            /* the bits found */
    unsigned unused;
} SampleSearch;

/* What the blocks of a row tell one another. All zero between steps. */
typedef struct SampleWork {
    SampleSearch cut;            /* where top-k or the nucleus ends */
    SampleSearch top;            /* where the list of most probable tokens ends */
    unsigned long long argmax;   /* greatest (key << 32 | ~token) of the adjusted logits */
    unsigned long long raw_mass; /* of the raw logits at temperature 1 */
    unsigned long long mass;     /* of the adjusted logits at the row's temperature */
    unsigned raw_max_key;
    unsigned raw_broken; /* ~token of the first that is NaN or +inf */
    unsigned broken;     /* likewise after penalties and biases */
    unsigned n_top_listed;
    unsigned n_blocks_done;
    unsigned status;
    float raw_max;
    float max; /* of the adjusted logits */
    unsigned unused[2];
} SampleWork;

/* Where everything lies. Nothing here changes while a state lives. */
typedef struct SampleArrays {
    SampleSlot *slots;     /* [n_slots] */
    unsigned *history;     /* [n_slots, history_length]: token i at i % history_length */
    unsigned *counts;      /* [n_slots, vocab]: occurrences in the window */
    unsigned *touched;     /* [n_slots, n_words]: bits of tokens with a count or a bias, and some */
    unsigned *masks;       /* [n_slots, n_words]: bits of tokens that may be drawn */
    SampleBias *biases;    /* [n_slots, n_biases], by token */
    /* In pinned memory of the host, which reads them while steps go on: */
    SampleOutput *outputs; /* [n_slots, ring_length] */
    SampleTop *tops;       /* [n_slots, ring_length, n_top] */
    unsigned *published;   /* [n_slots]: outputs that are there, SampleSlot.n_drawn */

    SampleWork *work;               /* [n_rows], as are the next ones; histograms are zero between steps */
    unsigned *counts_by_bucket;     /* [SAMPLE_BUCKETS] */
    unsigned *tops_by_bucket;       /* [SAMPLE_BUCKETS] */
    unsigned long long *masses;     /* [SAMPLE_BUCKETS] */
    unsigned long long *tile_mass;  /* [n_tiles]: what is certainly kept */
    unsigned *tile_ties;            /* [n_tiles]: tokens at the end of the prefix */
    unsigned *tile_listed;          /* [n_tiles]: length of the list */
    unsigned *tile_list;            /* [n_tiles, list_length]: keys before the end */
    unsigned *tile_keys;            /* [n_tiles, SAMPLE_KEYS]: tokens by the last bits of the key */
    unsigned *tile_top_ties;        /* [n_tiles] */
    unsigned *tile_top_tokens;      /* [n_tiles, n_top]: the first tokens at the end of the list */
    SampleTop *top_list;            /* [n_top] */

    unsigned vocab;
    unsigned n_words; /* ⌈vocab / 32⌉ */
    unsigned n_tiles; /* ⌈vocab / SAMPLE_TILE⌉ */
    unsigned history_length;
    unsigned n_biases;
    unsigned ring_length;
    unsigned n_top;
    unsigned list_length;
} SampleArrays;

/* One step of n_rows sequences; of all passes alike. The grid holds the tiles and the rows. */
typedef struct SampleParams {
    SampleArrays arrays;
    const float *logits;       /* [n_rows, vocab] */
    const unsigned *row_slots; /* [n_rows]: the slot of a row, each but once, or SAMPLE_IDLE */
    unsigned *tokens;          /* [n_rows]: gets the tokens drawn; may be null */
    unsigned *positions;       /* [n_rows]: gets their positions; may be null, as may */
    BatchSpan *spans;          /* [n_rows]: gets them too */
} SampleParams;

/* A sequence to begin. The offsets count words. */
typedef struct SampleStart {
    SampleSlot slot;
    unsigned index;        /* of the slot */
    unsigned first_token;  /* slot.n_history tokens */
    unsigned first_bias;   /* slot.n_biases of SampleBias, by token */
    unsigned first_mask;   /* n_words of bits, if slot.flags say so */
} SampleStart;

/* The grid holds the number of starts. */
typedef struct SampleStartParams {
    SampleArrays arrays;
    const SampleStart *starts;
    const unsigned *words;
} SampleStartParams;

#endif
