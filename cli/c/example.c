// A completion from C: example MODEL PROMPT. Two requests at once, one of which is broken off.

#include "onward.h"

#include <stdio.h>
#include <stdlib.h>

static void check(OnwardStatus status, const char *what) {
    if (status != ONWARD_STATUS_OK) {
        fprintf(stderr, "could not %s: %s\n", what, onward_last_error());
        exit(1);
    }
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "a model and a prompt are wanted\n");
        return 2;
    }
    OnwardOptions options = onward_default_options();
    options.n_sequences = 2;
    options.n_ctx = 256;
    OnwardEngine *engine;
    check(onward_create(argv[1], &options, &engine), "load the model");

    OnwardSampling sampling;
    check(onward_default_sampling(engine, &sampling), "read the sampling");
    sampling.temperature = 0;
    sampling.ignore_eos = true;
    sampling.max_tokens = 0;
    OnwardRequest *endless;
    check(onward_submit(engine, argv[2], &sampling, &endless), "ask");
    sampling.max_tokens = 24;
    OnwardRequest *request;
    check(onward_submit(engine, argv[2], &sampling, &request), "ask");

    OnwardEvent event;
    do {
        check(onward_poll(request, 1000, &event), "hear more");
        fputs(event.kind == ONWARD_EVENT_KIND_FAILED ? "failed: " : "", stdout);
        fputs(event.text, stdout);
    } while (event.kind != ONWARD_EVENT_KIND_FINISHED && event.kind != ONWARD_EVENT_KIND_FAILED);
    printf("\n%zu tokens\n", event.done);

    check(onward_cancel(endless), "cancel");
    while (onward_poll(endless, 1000, &event) == ONWARD_STATUS_OK) {
    }
    onward_release(endless);
    onward_release(request);
    onward_free(engine);
    return 0;
}
