// Onward for C. cbindgen makes this file from cli/c/*.rs.

#ifndef ONWARD_H
#define ONWARD_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

/**
 * How a call ended.
 */
typedef enum OnwardStatus {
  /**
   * It did what it was to do.
   */
  ONWARD_STATUS_OK = 0,
  /**
   * An argument that is none: a null pointer, a text that is not UTF-8, a number out of its
   * range.
   */
  ONWARD_STATUS_INVALID_ARGUMENT = 1,
  /**
   * A model that cannot be loaded, or a device that cannot be used.
   */
  ONWARD_STATUS_LOAD_FAILED = 2,
  /**
   * A request that cannot be served as it stands.
   */
  ONWARD_STATUS_INVALID_REQUEST = 3,
  /**
   * Too many requests wait already; later there may be room.
   */
  ONWARD_STATUS_QUEUE_FULL = 4,
  /**
   * The engine has failed, and serves nothing any more.
   */
  ONWARD_STATUS_ENGINE_FAILED = 5,
  /**
   * The request has ended, and its last event was given out.
   */
  ONWARD_STATUS_ENDED = 6,
  /**
   * A fault in onward itself.
   */
  ONWARD_STATUS_PANICKED = 7,
} OnwardStatus;

/**
 * What an [`OnwardEvent`] tells.
 */
typedef enum OnwardEventKind {
  /**
   * Nothing has happened in the time that was given.
   */
  ONWARD_EVENT_KIND_NONE = 0,
  /**
   * Some more of the prompt has been processed: `done` of `total` tokens.
   */
  ONWARD_EVENT_KIND_PREFILL = 1,
  /**
   * A token was drawn: `token`, `logprob`, and `text`, which may be empty.
   */
  ONWARD_EVENT_KIND_TOKEN = 2,
  /**
   * The request is done: `finish`, `done` tokens were drawn, and `text` is what was still owed.
   */
  ONWARD_EVENT_KIND_FINISHED = 3,
  /**
   * The request cannot be served to its end: `text` says why.
   */
  ONWARD_EVENT_KIND_FAILED = 4,
} OnwardEventKind;

/**
 * Why a request is done.
 */
typedef enum OnwardFinish {
  /**
   * The model ended the text.
   */
  ONWARD_FINISH_STOP = 0,
  /**
   * `max_tokens` or the context's end was reached.
   */
  ONWARD_FINISH_LENGTH = 1,
  /**
   * It was cancelled.
   */
  ONWARD_FINISH_CANCELLED = 2,
} OnwardFinish;

/**
 * A loaded model that serves requests on a thread of its own.
 */
typedef struct OnwardEngine OnwardEngine;

/**
 * A request that was taken.
 */
typedef struct OnwardRequest OnwardRequest;

/**
 * What is fixed when a model is loaded. Begin with [`onward_default_options`].
 */
typedef struct OnwardOptions {
  /**
   * `cpu`, `cuda`, `cuda:N` or `reference`; null for `cpu`.
   */
  const char *device;
  /**
   * Positions a sequence may reach; 0 for what the model was trained for.
   */
  size_t n_ctx;
  /**
   * Requests that are served at the same time.
   */
  size_t n_sequences;
  /**
   * The most tokens of one forward pass.
   */
  size_t chunk;
  /**
   * Requests that may wait.
   */
  size_t max_queue;
  /**
   * Threads of the CPU; 0 for one on each core.
   */
  size_t n_threads;
} OnwardOptions;

/**
 * How tokens are drawn, and how many. Begin with [`onward_default_sampling`].
 */
typedef struct OnwardSampling {
  /**
   * The most tokens to generate; 0 goes on to the end of the context.
   */
  size_t max_tokens;
  /**
   * Sharpens (below 1) or flattens (above 1) the distribution; 0 takes the likeliest token.
   */
  float temperature;
  /**
   * Keeps the fewest tokens whose probabilities reach this together.
   */
  float top_p;
  /**
   * Keeps tokens at least so many times as likely as the likeliest.
   */
  float min_p;
  /**
   * Keeps so many of the likeliest tokens; 0 keeps all.
   */
  size_t top_k;
  /**
   * Makes tokens that were there less likely; 1 does not.
   */
  float repeat_penalty;
  /**
   * The same seed gives the same text.
   */
  uint64_t seed;
  /**
   * Goes on past the model's own end-of-text tokens.
   */
  bool ignore_eos;
} OnwardSampling;

/**
 * What happened to a request. Fields that the kind does not name are zero.
 */
typedef struct OnwardEvent {
  /**
   * What it tells.
   */
  enum OnwardEventKind kind;
  /**
   * Why the request is done.
   */
  enum OnwardFinish finish;
  /**
   * A token's id.
   */
  uint32_t token;
  /**
   * Its natural log-probability under the model.
   */
  float logprob;
  /**
   * Tokens that are done.
   */
  size_t done;
  /**
   * Tokens in all.
   */
  size_t total;
  /**
   * A text that lasts until the next event of this request; never null.
   */
  const char *text;
} OnwardEvent;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * Why this thread's last call that failed did so. The text lasts until the thread's next call.
 */
const char *onward_last_error(void);

/**
 * The usual options.
 */
struct OnwardOptions onward_default_options(void);

/**
 * Loads the model at `path`, a GGUF file or a directory of safetensors, and starts serving.
 * `options` may be null for the usual ones. `engine` is set to the engine, which is to be freed by
 * [`onward_free`], or to null.
 *
 * # Safety
 * `path` is a text, `options` null or options, `engine` a place for a pointer.
 */
enum OnwardStatus onward_create(const char *path,
                                const struct OnwardOptions *options,
                                struct OnwardEngine **engine);

/**
 * Frees an engine. Its requests may be freed before or after; those under way are served to their
 * ends. Null is ignored.
 *
 * # Safety
 * `engine` is null or from [`onward_create`], and not used again.
 */
void onward_free(struct OnwardEngine *engine);

/**
 * The sampling that the model's authors recommend, or the usual one, with a seed of 0 and no
 * limit of tokens.
 *
 * # Safety
 * `engine` is from [`onward_create`](crate::onward_create), `sampling` a place for the values.
 */
enum OnwardStatus onward_default_sampling(const struct OnwardEngine *engine,
                                          struct OnwardSampling *sampling);

/**
 * Asks for a completion of `prompt`. `sampling` may be null for the usual one. `request` is set to
 * the request, which is to be freed by [`onward_release`], or to null.
 *
 * # Safety
 * `engine` is from [`onward_create`](crate::onward_create), `prompt` a text, `sampling` null or
 * values, `request` a place for a pointer.
 */
enum OnwardStatus onward_submit(const struct OnwardEngine *engine,
                                const char *prompt,
                                const struct OnwardSampling *sampling,
                                struct OnwardRequest **request);

/**
 * Waits for the next event of a request, at most `timeout_ms` milliseconds; 0 only looks. After
 * the last one, `ONWARD_STATUS_ENDED` is returned.
 *
 * # Safety
 * `request` is from [`onward_submit`], `event` a place for the event.
 */
enum OnwardStatus onward_poll(struct OnwardRequest *request,
                              uint64_t timeout_ms,
                              struct OnwardEvent *event);

/**
 * Ends a request within a step. Its last event, which says so, is still to come.
 *
 * # Safety
 * `request` is from [`onward_submit`].
 */
enum OnwardStatus onward_cancel(struct OnwardRequest *request);

/**
 * Frees a request; one that is not done is cancelled. Null is ignored.
 *
 * # Safety
 * `request` is null or from [`onward_submit`], and not used again.
 */
void onward_release(struct OnwardRequest *request);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* ONWARD_H */
