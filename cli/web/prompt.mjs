// What the model reads before it answers.
//
// The server caches what it has computed by token ids. So the ids of an earlier turn are sent as
// they were drawn, and only what comes behind them is tokenized: a text that is tokenized again
// may get other ids, and all behind the first difference would be computed once more.

import { idsOf, pathTo, textOf } from "./conversation.mjs";

/**
 * @typedef {object} Prompt
 * @property {number[]} ids
 * @property {string} text what they read
 *
 * @param {import("./api.mjs").Api} api
 * @param {object} answer the turn to be made
 * @param {{isChat: boolean, system: string}} manner
 * @param {AbortSignal} signal
 * @returns {Promise<Prompt>}
 */
export async function promptFor(api, answer, manner, signal) {
  const path = pathTo(answer.parent);
  const text = manner.isChat
    ? await api.applyTemplate(messages(path, manner.system), signal)
    : path.map(textOf).join("");
  const earlier = path.findLast((node) => node.role === "answer" && node.prompt);
  if (earlier) {
    const seen = earlier.prompt.text + textOf(earlier);
    if (text.startsWith(seen) && text.length > seen.length) {
      const more = await api.tokenize(text.slice(seen.length), false, signal);
      return { ids: [...idsOf(earlier), ...more], text };
    }
  }
  return { ids: await api.tokenize(text, true, signal), text };
}

function messages(path, system) {
  const turns = path.map((node) => ({
    role: node.role === "user" ? "user" : "assistant",
    content: textOf(node),
  }));
  return system.trim() === "" ? turns : [{ role: "system", content: system }, ...turns];
}
