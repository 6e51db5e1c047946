// A model without a chat template, a server that wants a key, and one that goes away.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { answered, close, launch, open, ready, send, set, tokensOf } from "./page.mjs";
import { CHAT_MODEL, TEXT_MODEL, start } from "./server.mjs";

let browser;

before(async () => {
  browser = await launch();
});

after(() => browser?.close());

test("a model that knows no conversation goes on from a text", async () => {
  const server = await start(TEXT_MODEL);
  try {
    const opened = await open(browser, server.url);
    const { page } = opened;
    await ready(page);
    if (await page.locator("#mode-field").isVisible()) await page.locator("[name=mode]").selectOption("text");
    await set(page, "temperature", 0);
    await set(page, "maxTokens", 6);
    await send(page, "The capital of France is");
    const tokens = await tokensOf(await answered(page));
    assert.equal(tokens.length, 6);
    assert.ok(tokens[0].text.startsWith(" "), "it goes on within the sentence");
    await close(opened);
  } finally {
    await server.stop();
  }
});

test("a server's key is asked for, again if it is wrong, and kept for the tab", async () => {
  const server = await start(CHAT_MODEL, "--api-key", "open sesame");
  try {
    const opened = await open(browser, server.url);
    const { page } = opened;
    const dialog = page.getByRole("dialog", { name: /key/ });
    await dialog.waitFor();
    await page.locator("#key").fill("wrong");
    await page.locator("#key").press("Enter");
    await page.getByText("not the right one").waitFor();
    await page.locator("#key").fill("open sesame");
    await page.locator("#key").press("Enter");
    await ready(page);
    await page.reload();
    await ready(page);
    assert.ok(await dialog.isHidden());
    await close(opened);
  } finally {
    await server.stop();
  }
});

test("a server that goes away is said to be gone", async () => {
  const server = await start(CHAT_MODEL);
  try {
    const { page, context } = await open(browser, server.url);
    await ready(page);
    await set(page, "temperature", 0);
    await send(page, "Write a long story about the sea.");
    await page.locator(".token").nth(3).waitFor();
    await server.stop();
    const answer = await answered(page);
    assert.match(await answer.getByRole("alert").innerText(), /connection to the server was lost/);
    assert.ok((await tokensOf(answer)).length > 3, "what there was stays");
    assert.ok(await answer.getByRole("button", { name: "Try again" }).isVisible());
    await context.close();
  } finally {
    await server.stop();
  }
});
