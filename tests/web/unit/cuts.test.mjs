// Where sampling cut, against a vocabulary of which all is known.

import assert from "node:assert/strict";
import { test } from "node:test";
import { findCuts } from "../../../cli/web/cuts.mjs";

/** As the engine does it, with the whole vocabulary in sight: masses are whole numbers. */
function keptOf(logprobs, { temperature, topK, topP, minP }) {
  const w = logprobs.map((logprob) => Math.round(2 ** 40 * Math.exp((logprob - logprobs[0]) / temperature)));
  const first = w.slice(0, topK > 0 ? topK : w.length);
  const target = topP * first.reduce((sum, x) => sum + x, 0);
  let n = 0;
  for (let sum = 0; n < first.length && (n === 0 || sum < target); n += 1) sum += first[n];
  return Math.max(1, first.slice(0, n).filter((x) => x > 0 && x >= minP * 2 ** 40).length);
}

/** A small generator of numbers from 0 to 1: tests must not differ from run to run. */
function numbers(seed) {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

function vocabulary(random, n, peak) {
  const logits = Array.from({ length: n }, () => -Math.log(random()) * peak).sort((a, b) => b - a);
  const total = Math.log(logits.reduce((sum, x) => sum + Math.exp(x), 0));
  return logits.map((x) => x - total);
}

const plain = { temperature: 1, topK: 0, topP: 1, minP: 0 };

test("what is kept for sure is kept, and what is cut for sure is cut", () => {
  const random = numbers(7);
  let nExact = 0;
  let nSeen = 0;
  for (let round = 0; round < 3000; round += 1) {
    const n = 20 + Math.floor(random() * 400);
    const all = vocabulary(random, n, 0.3 + 3 * random());
    const listed = all.slice(0, 1 + Math.floor(random() * 20));
    const sampling = {
      temperature: [0.3, 0.7, 0.95, 1, 1.2, 2][Math.floor(random() * 6)],
      topK: [0, 0, 5, 20, 40, 100][Math.floor(random() * 6)],
      topP: [1, 0.95, 0.9, 0.5, 0.2, 0][Math.floor(random() * 6)],
      minP: [0, 0, 0.02, 0.1, 0.5][Math.floor(random() * 5)],
    };
    const kept = keptOf(all, sampling);
    const w = all.map((x) => Math.exp((x - all[0]) / sampling.temperature));
    const mass = w.slice(0, kept).reduce((sum, x) => sum + x, 0);
    for (const nVocab of [n, Infinity]) {
      const { rows } = findCuts(listed, sampling, nVocab);
      rows.forEach(({ status, low, high }, i) => {
        nSeen += 1;
        if (status !== "unsure") {
          nExact += 1;
          assert.equal(status === "kept", i < kept, `${JSON.stringify(sampling)} ${n} at ${i}: ${status}`);
        }
        const drawn = i < kept ? w[i] / mass : 0;
        assert.ok(low <= drawn + 1e-9 && drawn <= high + 1e-9, `${low} ${drawn} ${high} ${JSON.stringify(sampling)}`);
      });
    }
  }
  assert.ok(nExact > nSeen * 0.9, `${nExact} of ${nSeen} are sure`);
});

test("at temperature 1 without top-k the cut of top-p is exact", () => {
  const logprobs = [0.5, 0.25, 0.125, 0.0625].map(Math.log);
  const { rows, lines, unlisted } = findCuts(logprobs, { ...plain, topP: 0.8 });
  assert.deepEqual(rows.map(({ status }) => status), ["kept", "kept", "kept", "cut"]);
  assert.deepEqual(lines, [{ filter: "top-p", at: 3, exact: true }]);
  assert.ok(Math.abs(unlisted - 0.0625) < 1e-12);
  assert.ok(Math.abs(rows[0].low - 0.5 / 0.875) < 1e-9 && rows[0].low === rows[0].high);
});

test("top-p compares with what top-k leaves, not with the whole", () => {
  // Of the first two, 0.5 is already 2/3; of the whole it would not be 0.6.
  const logprobs = [0.5, 0.25, 0.125].map(Math.log);
  const { lines } = findCuts(logprobs, { ...plain, topK: 2, topP: 0.6 });
  assert.deepEqual(lines.map(({ filter, at }) => [filter, at]), [["top-p", 1], ["top-k", 2]]);
});

test("what does not follow from the listed is not claimed", () => {
  const logprobs = [0.3, 0.2, 0.1].map(Math.log);
  // At temperature 2 the 40 % that are not listed may be anything from one token's mass to many.
  const { rows, lines } = findCuts(logprobs, { ...plain, temperature: 2, topP: 0.3 }, 1000);
  assert.equal(rows[2].status, "unsure");
  assert.ok(lines.every(({ exact }) => !exact));
  assert.ok(rows[1].low < rows[1].high);
});

test("temperature 0 keeps the likeliest alone", () => {
  const { rows, lines } = findCuts([-0.1, -3], { ...plain, temperature: 0 });
  assert.deepEqual(rows.map(({ status }) => status), ["kept", "cut"]);
  assert.deepEqual([rows[0].low, lines.length], [1, 0]);
});

test("one token that has all the mass, and none at all", () => {
  assert.equal(findCuts([0], { ...plain, topP: 0.9 }, 10).rows[0].status, "kept");
  assert.deepEqual(findCuts([], plain).rows, []);
});
