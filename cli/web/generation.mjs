// One answer while it is being made.

import { promptFor } from "./prompt.mjs";

/**
 * Makes `answer`, or what it still lacks; `changed` is told of every change. Never fails: what
 * went wrong is in `answer.error`.
 *
 * @param {import("./api.mjs").Api} api
 * @param {object} answer
 * @param {{isChat: boolean, system: string, sampling: object, stopIds: number[]}} manner
 * @param {AbortSignal} signal
 * @param {(answer: object) => void} changed
 */
export async function generate(api, answer, manner, signal, changed) {
  Object.assign(answer, { state: "running", finish: null, error: null, usage: null });
  answer.seed = manner.sampling.seed;
  answer.times = { sent: performance.now(), first: 0, last: 0, nNew: 0 };
  changed(answer);
  try {
    answer.prompt ??= await promptFor(api, answer, manner, signal);
    await draw(api, answer, manner, signal, changed);
  } catch (error) {
    if (error.name === "AbortError") answer.finish = "stopped";
    else answer.error = error;
  }
  answer.state = "done";
  changed(answer);
}

async function draw(api, answer, { sampling, stopIds }, signal, changed) {
  const last = answer.tokens.at(-1);
  if (last && stopIds.includes(last.id)) {
    // A person has chosen the token that ends the text.
    answer.finish = "stop";
    return;
  }
  const ids = [...answer.prompt.ids, ...answer.tokens.map((token) => token.id)];
  answer.times.sent = performance.now();
  for await (const chunk of api.complete(ids, sampling, signal)) {
    if (chunk.usage) answer.usage = chunk.usage;
    const choice = chunk.choices[0];
    if (!choice) continue;
    take(answer, choice, sampling);
    changed(answer);
  }
}

/** Adds what a chunk has. */
function take(answer, choice, sampling) {
  answer.finish = choice.finish_reason ?? answer.finish;
  const ids = choice.token_ids ?? [];
  if (ids.length === 0) {
    answer.tail += choice.text;
    return;
  }
  const now = performance.now();
  const { times } = answer;
  if (times.nNew === 0) times.first = now;
  times.last = now;
  times.nNew += ids.length;
  const { logprobs } = choice;
  ids.forEach((id, i) => {
    answer.tokens.push({
      id,
      // A chunk has one token; where it had more, the first would get all that is certain.
      text: i === 0 ? choice.text : "",
      logprob: logprobs.token_logprobs[i],
      top: logprobs.top_tokens[i].map(({ id, token, logprob }) => ({ id, text: token, logprob })),
      sampling,
    });
  });
}
