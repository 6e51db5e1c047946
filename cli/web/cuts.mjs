// Where sampling cut, told from the alternatives that the server lists. Pure.
//
// The engine orders the vocabulary by probability and keeps
//
//   top-k   the first k
//   top-p   of those the shortest prefix that holds the share p of their mass
//   min-p   of those what is at least min_p times as likely as the likeliest
//
// with masses at the request's temperature, w = (q / q₀)^(1/T). The server reports q, the model's
// own distribution, and only the likeliest n of it. What top-p compares with is the mass of all
// that top-k leaves, so the m unlisted tokens among those matter. They have the rest R = 1 - Σ q
// or a part of it, and none is likelier than the last one listed. With a = 1/T that bounds Σ qᵃ:
//
//   a ≥ 1   m (R/N)ᵃ          ≤ Σ qᵃ ≤ min(R q_lastᵃ⁻¹, m q_lastᵃ)
//   a < 1   R m/N q_lastᵃ⁻¹   ≤ Σ qᵃ ≤ min(m¹⁻ᵃ Rᵃ,     m q_lastᵃ)
//
// N being all unlisted tokens. At T = 1 and without top-k both are R, and the cut is exact.

/** Log-probabilities come as 32-bit floats: sums of them are not known better than this. */
const EPSILON = 2e-6;
/** The engine counts masses in units of 2^-40 of the likeliest token's: what is less has none. */
const UNIT = 2 ** -40;

/**
 * @typedef {object} Sampling
 * @property {number} temperature
 * @property {number} topK 0 keeps all
 * @property {number} topP
 * @property {number} minP
 *
 * @typedef {object} Row what is known of one alternative
 * @property {"kept"|"cut"|"unsure"} status
 * @property {number} low  least probability of being drawn
 * @property {number} high greatest
 *
 * @typedef {object} Line a filter that cuts among the alternatives
 * @property {"top-k"|"top-p"|"min-p"} filter
 * @property {number} at the alternative that it stands before
 * @property {boolean} exact
 *
 * @typedef {object} Cuts
 * @property {Row[]} rows
 * @property {Line[]} lines in order, the one that matters first where two are at one place
 * @property {number} unlisted the model's probability of all tokens that are not listed
 */

/**
 * @param {number[]} logprobs natural log-probabilities under the model, best first
 * @param {Sampling} sampling
 * @param {number} [nVocab] tokens of the vocabulary
 * @returns {Cuts}
 */
export function findCuts(logprobs, sampling, nVocab = Infinity) {
  const n = logprobs.length;
  if (n === 0) return { rows: [], lines: [], unlisted: 1 };
  const q = logprobs.map(Math.exp);
  const unlisted = Math.max(0, 1 - sum(q));
  if (sampling.temperature === 0) {
    const rows = q.map((_, i) => (i === 0 ? row("kept", 1, 1) : row("cut", 0, 0)));
    return { rows, lines: [], unlisted };
  }
  const w = logprobs.map((logprob) => Math.exp((logprob - logprobs[0]) / sampling.temperature));
  const k = sampling.topK > 0 ? sampling.topK : Infinity;
  const inTopK = Math.min(n, k);
  const rest = k <= n ? { low: 0, high: 0 } : restMass(q, unlisted, sampling.temperature, k, nVocab);
  const target = {
    low: sampling.topP * (sum(w.slice(0, inTopK)) + rest.low),
    high: sampling.topP * (sum(w.slice(0, inTopK)) + rest.high),
  };
  const isAll = sampling.topP >= 1;
  // How many of the listed top-p keeps for sure, and how many it may keep.
  const nSure = isAll ? inTopK : prefix(w, inTopK, target.low - EPSILON);
  const nMaybe = isAll ? inTopK : prefix(w, inTopK, target.high + EPSILON);
  const nMinP = w.filter((weight) => weight >= sampling.minP).length || 1;
  const status = w.map((_, i) => {
    if (i >= nMinP || i >= nMaybe || w[i] < UNIT / 2) return "cut";
    return i < nSure ? "kept" : "unsure";
  });
  const reachesUnlisted = k > n && nMaybe === n && nMinP === n;
  return {
    rows: drawn(w, status, reachesUnlisted ? rest.high : 0),
    lines: lines(n, { k, nSure, nMaybe, nMinP, inTopK }),
    unlisted,
  };
}

/** Bounds of the mass, in units of w, of the unlisted tokens that top-k leaves. */
function restMass(q, unlisted, temperature, k, nVocab) {
  const a = 1 / temperature;
  const nUnlisted = Math.max(0, nVocab - q.length);
  const m = Math.min(k - q.length, nUnlisted);
  if (m === 0 || unlisted === 0) return { low: 0, high: 0 };
  const last = q[q.length - 1];
  const share = nUnlisted === Infinity ? 0 : m / nUnlisted;
  const low = a >= 1
    ? (share === 0 ? 0 : m * (unlisted / nUnlisted) ** a)
    : unlisted * share * last ** (a - 1);
  const spread = a >= 1 ? unlisted * last ** (a - 1) : m ** (1 - a) * unlisted ** a;
  const high = Math.min(spread, m * last ** a);
  // Where nothing but rounding parts them they are one.
  if (a === 1 && m === nUnlisted) return { low: unlisted / q[0], high: unlisted / q[0] };
  return { low: low / q[0] ** a, high: Math.max(low, high) / q[0] ** a };
}

/** Length of the shortest prefix of the first `n` with a sum of `target`; at least 1. */
function prefix(w, n, target) {
  let before = 0;
  let length = 0;
  while (length < n && (length === 0 || before < target)) {
    before += w[length];
    length += 1;
  }
  return length;
}

/** The rows with the probabilities that they are drawn with. */
function drawn(w, status, restHigh) {
  const mass = (wanted) => sum(w.filter((_, i) => wanted.includes(status[i])));
  const sure = mass(["kept"]);
  const most = mass(["kept", "unsure"]) + restHigh;
  return w.map((weight, i) => {
    if (status[i] === "cut") return row("cut", 0, 0);
    if (status[i] === "kept") return row("kept", weight / most, weight / sure);
    return row("unsure", 0, weight / (sure + weight));
  });
}

/** The filters that cut among the `n` listed. */
function lines(n, { k, nSure, nMaybe, nMinP, inTopK }) {
  const found = [];
  if (k < n) found.push({ filter: "top-k", at: k, exact: true });
  if (nSure < inTopK) {
    const exact = nSure === nMaybe;
    // What is not sure is still drawn above the line, marked as such.
    found.push({ filter: "top-p", at: nMaybe, exact });
  }
  if (nMinP < n) found.push({ filter: "min-p", at: nMinP, exact: true });
  return found.sort((one, other) => one.at - other.at);
}

function row(status, low, high) {
  return { status, low, high };
}

function sum(numbers) {
  return numbers.reduce((total, number) => total + number, 0);
}
