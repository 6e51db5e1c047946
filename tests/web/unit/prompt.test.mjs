// What is sent begins with the ids that were drawn, so that the server's cache has them.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Conversation } from "../../../cli/web/conversation.mjs";
import { promptFor } from "../../../cli/web/prompt.mjs";

/** A server whose ids are characters; a template that may trim. */
class FakeApi {
  asked = [];

  constructor(trims = false) {
    this.trims = trims;
  }

  async tokenize(text, isBeginning) {
    this.asked.push(text);
    return [...(isBeginning ? [0] : []), ...[...text].map((character) => character.codePointAt(0))];
  }

  async applyTemplate(messages) {
    const turn = ({ role, content }) => `[${role}]${this.trims ? content.trim() : content}`;
    return `${messages.map(turn).join("")}[assistant]`;
  }
}

const chat = { isChat: true, system: "" };

async function second(api, manner, said) {
  const conversation = new Conversation();
  const first = conversation.addAnswer(conversation.addUser(conversation.root, "hi"));
  first.prompt = await promptFor(api, first, manner);
  // One token of two characters: tokenizing its text again would give two.
  first.tokens.push({ id: 5000, text: said });
  const next = conversation.addAnswer(conversation.addUser(first, "more"));
  return { first, prompt: await promptFor(api, next, manner) };
}

test("behind an answer only what is new is tokenized", async () => {
  const api = new FakeApi();
  const { first, prompt } = await second(api, chat, "yo");
  assert.deepEqual(prompt.ids.slice(0, first.prompt.ids.length + 1), [...first.prompt.ids, 5000]);
  assert.equal(api.asked.at(-1), "[user]more[assistant]");
  assert.equal(prompt.text, "[user]hi[assistant]yo[user]more[assistant]");
});

test("a template that writes the answer otherwise has all of it tokenized", async () => {
  const api = new FakeApi(true);
  const { prompt } = await second(api, chat, "yo\n");
  assert.ok(!prompt.ids.includes(5000));
  assert.equal(api.asked.at(-1), prompt.text);
});

test("plain text goes on behind itself", async () => {
  const api = new FakeApi();
  const { prompt } = await second(api, { isChat: false, system: "ignored" }, "yo");
  assert.equal(prompt.text, "hiyomore");
  assert.deepEqual(prompt.ids.slice(0, 4), [0, 104, 105, 5000]);
});

test("a system prompt comes first", async () => {
  const conversation = new Conversation();
  const answer = conversation.addAnswer(conversation.addUser(conversation.root, "hi"));
  const prompt = await promptFor(new FakeApi(), answer, { isChat: true, system: "be brief" });
  assert.equal(prompt.text, "[system]be brief[user]hi[assistant]");
});
