// The page in headless Chromium, with what must hold on every page: no error on the console, no
// request to another host.

import { createRequire } from "node:module";
import assert from "node:assert/strict";

const require = createRequire(`${process.env.ONWARD_WEB_TOOLS}/node_modules/`);
const { chromium } = require("playwright-core");

/** Milliseconds that anything may take. */
const PATIENCE = 90_000;

export function launch() {
  // In a container there may be neither a sandbox nor much shared memory.
  const args = ["--no-sandbox", "--disable-dev-shm-usage"];
  return chromium.launch({ executablePath: process.env.CHROMIUM ?? "chromium", args });
}

/**
 * Opens the page and waits until messages can be sent.
 *
 * @param {object} browser
 * @param {string} url
 * @param {object} [options] of the browser's context
 */
export async function open(browser, url, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE);
  const faults = [];
  page.on("console", (message) => {
    // A browser notes every answer that is an error; a server that wants a key gives one.
    const isKey = message.text().includes("401");
    if (["error", "warning"].includes(message.type()) && !isKey) faults.push(message.text());
  });
  page.on("pageerror", (error) => faults.push(error.message));
  page.on("request", (request) => {
    if (!request.url().startsWith(url)) faults.push(`a request to ${request.url()}`);
  });
  await page.goto(url);
  return { page, context, faults };
}

/** Ends a page that must have had no faults. */
export async function close({ context, faults }) {
  await context.close();
  assert.deepEqual(faults, []);
}

export async function ready(page) {
  await page.locator("#send:enabled").waitFor();
}

/** Sets how answers are drawn, as a person would. */
export async function set(page, name, value) {
  await page.locator(`#settings input[type=number][name=${name}]`).fill(String(value));
}

export async function send(page, text) {
  await page.locator("#input").fill(text);
  await page.locator("#input").press("Enter");
}

/** Waits for the end of the answer that is shown last, or `nth`. */
export async function answered(page, nth = -1) {
  const answer = page.locator(".turn.answer").nth(nth);
  await answer.locator("xpath=self::*[@aria-busy='false']").waitFor();
  return answer;
}

/** The ids and texts of an answer's tokens, as the page has them. */
export function tokensOf(answer) {
  return answer.locator(".tokens").evaluate((element) => element.node.tokens.map(({ id, text }) => ({ id, text })));
}

/** Whether anything is wider than the page. */
export function overflow(page) {
  return page.evaluate(() => {
    const wide = [...document.querySelectorAll("body *")].filter((element) => {
      const { right, width } = element.getBoundingClientRect();
      return width > 1 && right > innerWidth + 1 && getComputedStyle(element).position !== "absolute";
    });
    return [document.documentElement.scrollWidth > innerWidth, ...wide.map((element) => element.outerHTML.slice(0, 80))];
  });
}
