import assert from "node:assert/strict";
import { test } from "node:test";
import { EventParser } from "../../../cli/web/sse.mjs";

const STREAM = ": keep-alive\n\ndata: {\"a\":1}\n\nevent: error\ndata: one\ndata: two\n\ndata:[DONE]\n\n";
const EVENTS = [
  { event: "message", data: "{\"a\":1}" },
  { event: "error", data: "one\ntwo" },
  { event: "message", data: "[DONE]" },
];

test("events come out alike however the stream is cut", () => {
  for (const text of [STREAM, STREAM.replaceAll("\n", "\r\n"), STREAM.replaceAll("\n", "\r")]) {
    for (let size = 1; size <= text.length; size += 1) {
      const parser = new EventParser();
      const events = [];
      for (let at = 0; at < text.length; at += size) events.push(...parser.push(text.slice(at, at + size)));
      assert.deepEqual(events, EVENTS, `pieces of ${size}`);
    }
  }
});

test("an event that is not complete is not given", () => {
  assert.deepEqual(new EventParser().push("data: x\n"), []);
});
