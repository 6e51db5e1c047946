import assert from "node:assert/strict";
import { test } from "node:test";
import {
  Conversation, commonTokens, commonTurns, idsOf, leafBelow, leaves, outline, pathTo, textOf, visit,
} from "../../../cli/web/conversation.mjs";

const token = (id, text) => ({ id, text, logprob: -1, top: [{ id: 9, text: "!", logprob: -2 }], sampling: {} });

function answered() {
  const conversation = new Conversation();
  const user = conversation.addUser(conversation.root, "hello");
  const answer = conversation.addAnswer(user, [token(1, "a"), token(2, "b"), token(3, "c")]);
  answer.prompt = { ids: [100, 101], text: "<hello>" };
  return { conversation, user, answer };
}

test("a fork has the tokens before it, the alternative, and the same prompt", () => {
  const { conversation, user, answer } = answered();
  const fork = conversation.fork(answer, 1, answer.tokens[1].top[0]);
  assert.equal(fork.parent, user);
  assert.deepEqual(idsOf(fork), [100, 101, 1, 9]);
  assert.equal(textOf(fork), "a!");
  assert.equal(fork.tokens[0], answer.tokens[0]);
  assert.ok(fork.tokens[1].isChosen && !answer.tokens[1].isChosen);
  assert.deepEqual(fork.fork, { of: answer, at: 1 });
  assert.deepEqual(idsOf(answer), [100, 101, 1, 2, 3]);
  assert.equal(commonTokens(answer, fork), 1);
  assert.equal(commonTurns(pathTo(answer), pathTo(fork)), 1);
});

test("going back to a branch finds the end that was looked at last", () => {
  const { conversation, user, answer } = answered();
  const fork = conversation.fork(answer, 0, answer.tokens[0].top[0]);
  const more = conversation.addAnswer(conversation.addUser(answer, "more"));
  assert.equal(leafBelow(conversation.root), fork);
  visit(more);
  assert.equal(leafBelow(user), more);
  assert.deepEqual(leaves(conversation.root), [more, fork]);
});

test("the outline indents where it forks alone", () => {
  const { conversation, answer } = answered();
  conversation.addAnswer(conversation.addUser(answer, "more"));
  conversation.fork(answer, 0, answer.tokens[0].top[0]);
  const rows = outline(conversation.root);
  assert.deepEqual(rows.map(({ node, depth }) => [node.role, depth]), [
    ["user", 0], ["answer", 1], ["user", 1], ["answer", 1], ["answer", 1],
  ]);
});
