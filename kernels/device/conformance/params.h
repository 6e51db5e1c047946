/* Parameters of the kernels beside this file. */
#ifndef ONWARD_CONFORMANCE_PARAMS_H
#define ONWARD_CONFORMANCE_PARAMS_H

/* One block; what the words mean is told at each kernel. */
typedef struct ConformanceParams {
    const unsigned *a;
    const unsigned *b;
    const unsigned *c;
    unsigned *out;
} ConformanceParams;

#endif
