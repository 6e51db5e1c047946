// How numbers and tokens are written. Pure.

/** Shown in place of characters that leave no mark. */
const MARKS = { " ": "␣", "\n": "⏎", "\r": "␍", "\t": "⇥", "\u00a0": "⍽" };

/** @returns {string} a token with its white space visible */
export function visible(text) {
  if (text === "") return "∅";
  return [...text].map((character) => MARKS[character] ?? character).join("");
}

/** @returns {string} a token as it is to be spoken */
export function spoken(text) {
  const names = { " ": "space", "\n": "line end", "\t": "tab", "": "part of a character" };
  const name = names[text];
  return name ?? text.trim();
}

/** @returns {string} a probability with as many digits as tell something */
export function percent(p) {
  const value = p * 100;
  if (value === 0) return "0 %";
  if (value < 0.01) return "< 0.01 %";
  if (value >= 99.995) return value > 99.9999 ? "100 %" : "> 99.99 %";
  return `${value.toFixed(value < 1 || value > 99 ? 2 : 1)} %`;
}

/** @returns {string} a probability that lies between two */
export function percentRange(low, high) {
  if (high - low < 0.0005) return percent((low + high) / 2);
  const digits = (p) => (p * 100).toFixed(high - low < 0.01 ? 1 : 0);
  return digits(low) === digits(high) ? `≈ ${digits(low)} %` : `${digits(low)}–${digits(high)} %`;
}

/** @returns {string} a time in seconds */
export function seconds(milliseconds) {
  const value = milliseconds / 1000;
  return `${value.toFixed(value < 10 ? 2 : 1)} s`;
}

/** @returns {string} `1 token`, `2 tokens` */
export function counted(n, noun) {
  return `${n} ${noun}${n === 1 ? "" : "s"}`;
}

/**
 * Tokens a second after the first one, which waits for the prompt.
 *
 * @param {{first: number, last: number, nNew: number}} times
 * @returns {number|null}
 */
export function rate({ first, last, nNew }) {
  return nNew < 2 || last <= first ? null : ((nNew - 1) * 1000) / (last - first);
}

/**
 * How surprising a token was: 0 for certain, 1 for a probability of 1 in 400 and less.
 *
 * @param {number} logprob natural
 */
export function surprise(logprob) {
  return Math.min(1, Math.max(0, -logprob / 6));
}

/** @returns {string} a text in one line, cut to `n` characters */
export function shortened(text, n) {
  const characters = [...text.trim().replace(/\s+/g, " ")];
  return characters.length <= n ? characters.join("") : `${characters.slice(0, n - 1).join("")}…`;
}

/**
 * Splits off the sentences that are complete: what a screen reader is told while an answer grows.
 *
 * @param {string} text
 * @returns {[string, string]} complete sentences, and the rest
 */
export function sentences(text) {
  const ends = [...text.matchAll(/[.!?…。！？]["'”’)\]]*(?=\s)|\n/gu)];
  const last = ends.at(-1);
  if (!last) return ["", text];
  const end = last.index + last[0].length;
  return [text.slice(0, end), text.slice(end)];
}
