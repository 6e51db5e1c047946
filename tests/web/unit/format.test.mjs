import assert from "node:assert/strict";
import { test } from "node:test";
import {
  counted, percent, percentRange, rate, sentences, shortened, spoken, surprise, visible,
} from "../../../cli/web/format.mjs";

test("probabilities have digits that tell something", () => {
  const written = [0, 0.00001, 0.0042, 0.123, 0.9934, 0.99999, 1].map(percent);
  assert.deepEqual(written, ["0 %", "< 0.01 %", "0.42 %", "12.3 %", "99.34 %", "> 99.99 %", "100 %"]);
  assert.equal(percentRange(0.3, 0.3001), "30.0 %");
  assert.equal(percentRange(0.3, 0.36), "30–36 %");
});

test("white space in tokens can be seen and said", () => {
  assert.equal(visible(" the\n"), "␣the⏎");
  assert.equal(visible(""), "∅");
  assert.equal(spoken("\n"), "line end");
  assert.equal(spoken(" the"), "the");
});

test("speed is counted from the first token on", () => {
  assert.equal(rate({ first: 1000, last: 3000, nNew: 11 }), 5);
  assert.equal(rate({ first: 1000, last: 1000, nNew: 1 }), null);
});

test("surprise grows from certain to 1 in 400", () => {
  assert.equal(surprise(0), 0);
  assert.ok(surprise(-1) > 0.1 && surprise(-1) < 0.2);
  assert.equal(surprise(-50), 1);
});

test("an answer is said by sentences", () => {
  assert.deepEqual(sentences("One. Two"), ["One.", " Two"]);
  assert.deepEqual(sentences("It is 3.5 now"), ["", "It is 3.5 now"]);
  assert.deepEqual(sentences("He said “no.” Then"), ["He said “no.”", " Then"]);
  assert.deepEqual(sentences("a\nb"), ["a\n", "b"]);
});

test("small words", () => {
  assert.deepEqual([counted(1, "token"), counted(2, "token")], ["1 token", "2 tokens"]);
  assert.equal(shortened("  a\n b  ", 10), "a b");
  assert.equal(shortened("abcdef", 4), "abc…");
});
