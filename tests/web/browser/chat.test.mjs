// A conversation with Qwen2.5-Coder 0.5B, as a person has it.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { answered, close, launch, open, overflow, ready, send, set, tokensOf } from "./page.mjs";
import { CHAT_MODEL, start } from "./server.mjs";

let browser;
let server;

before(async () => {
  [browser, server] = await Promise.all([launch(), start(CHAT_MODEL)]);
});

after(async () => {
  await browser?.close();
  await server?.stop();
});

async function chat(question, { maxTokens = 40, seed = 3, ...options } = {}) {
  const opened = await open(browser, server.url, options);
  const { page } = opened;
  await ready(page);
  if (await page.locator("#panel").isHidden()) await page.locator("#panel-toggle").click();
  await set(page, "maxTokens", maxTokens);
  await set(page, "seed", seed);
  if (options.isMobile) await page.locator("#panel-close").click();
  if (question) await send(page, question);
  return opened;
}

test("an answer streams, and each token shows what it was", async () => {
  const opened = await chat("Why is the sky blue? Answer in one sentence.");
  const { page } = opened;
  // Tokens come before the end.
  await page.waitForFunction(() => document.querySelectorAll("[aria-busy=true] .token").length >= 3);
  const answer = await answered(page);
  const tokens = await tokensOf(answer);
  assert.ok(tokens.length > 5);
  assert.equal(await answer.locator(".tokens").innerText(), tokens.map(({ text }) => text).join(""));
  assert.match(await answer.locator(".status").innerText(), /tokens\/s.*first after .* s.*prompt tokens from the cache/s);

  await answer.locator(".token").nth(3).hover();
  const box = page.locator("#inspector");
  await box.waitFor();
  assert.equal(await box.locator(".alternative").count() >= 20, true);
  assert.equal(await box.locator(".alternative.drawn button").getAttribute("data-id"), String(tokens[3].id));
  assert.equal(await box.locator(".alternative.kept").count() >= 1, true);
  assert.match(await box.locator(".cut-line").first().innerText(), /(top-p 0\.\d+|top-k \d+|min-p 0\.\d+)/);
  await page.mouse.move(5, 300);
  await box.waitFor({ state: "hidden" });
  await close(opened);
});

test("a click forks: what was read is not read again, and both can be seen side by side", async () => {
  const opened = await chat("Name three rivers and the seas they end in.");
  const { page } = opened;
  const first = await answered(page);
  const tokens = await tokensOf(first);
  const at = 12;
  await first.locator(".token").nth(at).hover();
  const other = page.locator("#inspector .alternative:not(.drawn) button").first();
  const chosen = Number(await other.getAttribute("data-id"));
  await other.click();
  const fork = await answered(page);
  const forked = await tokensOf(fork);
  assert.deepEqual(forked.slice(0, at), tokens.slice(0, at));
  assert.equal(forked[at].id, chosen);
  assert.notDeepEqual(forked, tokens);
  const [cached, asked] = await fork.locator(".cached").evaluate((element) => [
    Number(element.dataset.cached),
    Number(/of (\d+)/.exec(element.textContent)[1]),
  ]);
  // All but the alternative itself has been read; the prompt's last token is always run.
  assert.ok(cached >= asked - 2 && cached < asked, `${cached} of ${asked}`);
  assert.match(await fork.locator(".status").innerText(), new RegExp(`forked at token ${at + 1}`));

  await page.getByRole("button", { name: "Side by side" }).click();
  const columns = page.locator(".column");
  assert.equal(await columns.count(), 2);
  const [left, right] = [await columns.nth(0).boundingBox(), await columns.nth(1).boundingBox()];
  assert.ok(right.x >= left.x + left.width && Math.abs(right.y - left.y) < 2, "they stand side by side");
  assert.equal(await columns.nth(0).locator(".token.shared").count(), at);
  assert.equal(await columns.nth(1).locator(".token.shared").count(), at);
  assert.equal(await columns.nth(1).locator(".token.chosen").count(), 1);

  const tree = page.getByRole("tree");
  assert.equal(await tree.getByRole("treeitem").count(), 3);
  await columns.nth(1).getByRole("button", { name: /Close/ }).click();
  assert.deepEqual(await tokensOf(await answered(page)), tokens);
  await tree.getByRole("treeitem").nth(2).click();
  assert.deepEqual(await tokensOf(await answered(page)), forked);
  await page.getByRole("button", { name: "Branch before" }).click();
  assert.deepEqual(await tokensOf(await answered(page)), tokens);
  await close(opened);
});

test("a second turn goes on from the ids of the first", async () => {
  const opened = await chat("Say a number.", { maxTokens: 24 });
  const { page } = opened;
  const n = (await tokensOf(await answered(page))).length;
  await send(page, "Another one.");
  await page.locator(".turn.answer").nth(1).waitFor();
  const second = await answered(page, 1);
  const cached = Number(await second.locator(".cached").getAttribute("data-cached"));
  const first = Number(/of (\d+)/.exec(await page.locator(".cached").first().innerText())[1]);
  assert.ok(cached >= first + n - 1, `${cached} of ${first} + ${n}`);
  await close(opened);
});

test("stop stops at once, keeps what there is, and it can go on", async () => {
  const opened = await chat(null, { maxTokens: 800 });
  const { page } = opened;
  await set(page, "temperature", 0);
  await send(page, "Write a long story about the sea.");
  await page.locator(".token").nth(8).waitFor();
  await page.getByRole("button", { name: "Stop" }).first().click();
  const answer = await answered(page);
  const n = (await tokensOf(answer)).length;
  assert.ok(n >= 8 && n < 700, `${n}`);
  await page.waitForTimeout(500);
  assert.equal((await tokensOf(answer)).length, n, "nothing comes after");
  assert.match(await answer.locator(".status").innerText(), /stopped/);
  await set(page, "maxTokens", 5);
  await answer.getByRole("button", { name: "Go on" }).click();
  await page.waitForFunction((n) => document.querySelectorAll(".token").length === n, n + 5);
  await close(opened);
});

test("what the model writes is text, whatever it looks like", async () => {
  const question = "<img src=x onerror=alert(1)> <b>Repeat</b> the line before.";
  const opened = await chat(question, { maxTokens: 30 });
  const { page } = opened;
  await answered(page);
  assert.equal(await page.locator(".turn.user .said").innerText(), question);
  assert.equal(await page.locator("#thread img, #thread b").count(), 0);
  await close(opened);
});

test("it can be used without a mouse", async () => {
  const opened = await chat(null, { maxTokens: 20 });
  const { page } = opened;
  const { keyboard } = page;
  await page.locator("#input").focus();
  await keyboard.type("Name a colour.");
  await keyboard.press("Enter");
  await answered(page);
  const isOn = (selector) => page.evaluate((selector) => document.activeElement.matches(selector), selector);
  for (let i = 0; i < 40 && !(await isOn(".tokens")); i += 1) await keyboard.press("Shift+Tab");
  assert.ok(await isOn(".tokens"), "the answer can be reached");
  await keyboard.press("ArrowRight");
  await keyboard.press("ArrowRight");
  assert.equal(await page.locator(".token.current").getAttribute("data-index"), "2");
  assert.match(await page.locator("#live").innerText(), /%/);
  const outline = await page.locator(".tokens").evaluate((element) => getComputedStyle(element).outlineStyle);
  assert.notEqual(outline, "none", "the focus can be seen");
  await keyboard.press("Enter");
  assert.ok(await isOn("#inspector .drawn button"));
  await keyboard.press("ArrowDown");
  await keyboard.press("Enter");
  const fork = await answered(page);
  assert.match(await fork.locator(".status").innerText(), /forked at token 3/);
  await page.getByRole("treeitem").last().focus();
  await keyboard.press("ArrowUp");
  await keyboard.press("Enter");
  assert.equal(await page.locator(".siblings").innerText().then((text) => /1 \/ 2/.test(text)), true);
  await close(opened);
});

test("a screen reader hears sentences, not tokens", async () => {
  const opened = await chat(null, { maxTokens: 60 });
  const { page } = opened;
  await page.evaluate(() => {
    globalThis.heard = [];
    new MutationObserver((changes) => {
      for (const { addedNodes } of changes) for (const node of addedNodes) heard.push(node.textContent);
    }).observe(document.getElementById("log"), { childList: true });
  });
  await send(page, "Tell me about rain in three short sentences.");
  const tokens = await tokensOf(await answered(page));
  const heard = await page.evaluate(() => heard);
  assert.ok(heard.length < tokens.length / 3, `${heard.length} of ${tokens.length}`);
  assert.match(heard.at(-1), /End of the answer/);
  const said = heard.slice(0, -1).join("").replace(/\s/g, "");
  assert.equal(said, tokens.map(({ text }) => text).join("").replace(/\s/g, ""));
  assert.equal(await page.locator(".tokens").getAttribute("aria-live"), null);
  await close(opened);
});

test("a phone shows all of it without scrolling sideways, branches below each other", async () => {
  const phone = { viewport: { width: 360, height: 740 }, isMobile: true, hasTouch: true };
  const opened = await chat("Why is the sky blue?", { maxTokens: 30, ...phone });
  const { page } = opened;
  const answer = await answered(page);
  assert.deepEqual(await overflow(page), [false]);
  await answer.locator(".token").nth(4).tap();
  await page.locator("#inspector").waitFor();
  assert.deepEqual(await overflow(page), [false]);
  await page.locator("#inspector .alternative:not(.drawn) button").first().tap();
  await answered(page);
  await page.getByRole("button", { name: "Side by side" }).tap();
  const [first, second] = await page.locator(".column").all();
  assert.ok((await second.boundingBox()).y > (await first.boundingBox()).y + 50);
  assert.deepEqual(await overflow(page), [false]);
  await page.locator("#panel-toggle").tap();
  assert.deepEqual(await overflow(page), [false]);
  await close(opened);
});

test("dark and light follow the system until one is chosen", async () => {
  const opened = await open(browser, server.url, { colorScheme: "dark" });
  const { page } = opened;
  await ready(page);
  const brightness = () => page.evaluate(() => {
    const [red, green, blue] = getComputedStyle(document.body).backgroundColor.match(/[\d.]+/g).map(Number);
    return red + green + blue;
  });
  assert.ok((await brightness()) < 150);
  await page.emulateMedia({ colorScheme: "light" });
  assert.ok((await brightness()) > 600);
  await page.locator("#theme").click();
  await page.locator("#theme").click();
  assert.ok((await brightness()) < 150, "dark by choice");
  await page.reload();
  await ready(page);
  assert.ok((await brightness()) < 150, "the choice is kept");
  await close(opened);
});
