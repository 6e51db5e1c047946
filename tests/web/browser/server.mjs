// `onward serve` for a test, on a port of its own.

import { spawn } from "node:child_process";
import os from "node:os";
import path from "node:path";

const BINARY = process.env.ONWARD_BIN ?? "target/debug/onward";
const CACHE = process.env.ONWARD_CACHE
  ?? path.join(process.env.XDG_CACHE_HOME ?? path.join(os.homedir(), ".cache"), "onward");

export const CHAT_MODEL = path.join(CACHE, "models", "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf");
export const TEXT_MODEL = path.join(CACHE, "models", "gemma-3-270m-q4_k_m.gguf");

/** Milliseconds that a model may take to load on a busy machine. */
const LOAD_TIME = 120_000;

/**
 * Starts a server and waits until its model is loaded.
 *
 * @param {string} model
 * @param {...string} options
 * @returns {Promise<{url: string, stop: () => Promise<void>}>}
 */
export async function start(model, ...options) {
  const args = ["serve", "-m", model, "--port", "0", "--ctx-size", "2048", ...options];
  const child = spawn(BINARY, args, { stdio: ["ignore", "ignore", "pipe"] });
  const url = await addressOf(child);
  const ended = new Promise((resolve) => child.on("exit", resolve));
  await untilLoaded(url, child);
  return {
    url,
    stop: async () => {
      child.kill("SIGKILL");
      await ended;
    },
  };
}

function addressOf(child) {
  let written = "";
  return new Promise((resolve, reject) => {
    child.on("exit", (code) => reject(new Error(`onward serve ended with ${code}: ${written}`)));
    child.stderr.on("data", (data) => {
      written += data;
      const found = /http:\/\/[\d.]+:\d+/.exec(written);
      if (found) resolve(`${found[0]}/`);
    });
  });
}

async function untilLoaded(url, child) {
  for (const begin = Date.now(); Date.now() - begin < LOAD_TIME && child.exitCode === null;) {
    if ((await fetch(`${url}health`)).ok) return;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  child.kill("SIGKILL");
  throw new Error("the model was not loaded");
}
