/* Parameters of moe_route.cu. */
#ifndef ONWARD_MOE_ROUTE_PARAMS_H
#define ONWARD_MOE_ROUTE_PARAMS_H

enum {
    MOE_ROUTE_ROWS = 4,          /* of a block: a warp each */
    MOE_ROUTE_THREADS = 128,
    MOE_ROUTE_MAX_EXPERTS = 512, /* 16 a lane */
    MOE_ROUTE_MAX_TOP_K = 32,    /* a lane a slot */
    MOE_ROUTE_MAX_GROUPS = 32,   /* a lane a group */
    MOE_GROUP_THREADS = 256      /* of a moe_group block */
};

/* What is made of the logits. */
enum { MOE_SOFTMAX = 0, MOE_SOFTMAX_OF_CHOSEN = 1, MOE_SIGMOID = 2 };

/* One warp a row. */
typedef struct MoeRouteParams {
    const float *logits;    /* [n_rows, n_experts] */
    const float *bias;      /* [n_experts]; null: none */
    unsigned *experts;      /* [n_rows, top_k] */
    float *weights;         /* [n_rows, top_k] */
    unsigned n_rows;
    unsigned n_experts;
    unsigned top_k;
    unsigned scoring;       /* MOE_SOFTMAX and the others */
    unsigned n_groups;      /* 0: the model has none */
    unsigned chosen_groups; /* groups that experts are chosen from */
    unsigned top_two;       /* not 0: groups are chosen by the sum of their two best */
    unsigned normalise;     /* not 0: divide the weights of a row by their sum */
    float scale;            /* what the weights are multiplied by */
} MoeRouteParams;

/* One block an expert. */
typedef struct MoeGroupParams {
    const unsigned *experts; /* [n_slots] */
    unsigned *offsets;       /* [n_experts + 1]: the first place of each expert, then the end */
    unsigned *rows;          /* [n_slots]: the row of each place */
    unsigned *owners;        /* [n_slots]: the expert of each place */
    unsigned *places;        /* [n_slots]: the place of each slot */
    unsigned n_slots;        /* n_rows · top_k */
    unsigned top_k;
} MoeGroupParams;

#endif
