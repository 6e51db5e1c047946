// The server as the page asks it.

import { EventParser } from "./sse.mjs";

/** Alternatives that are asked for with each token: the most that the server lists. */
const N_ALTERNATIVES = 20;

/** What the server refused, in its own words. */
export class ApiError extends Error {
  /**
   * @param {number} status 0 where no answer came
   * @param {string} code
   * @param {string} message
   */
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

export class Api {
  /**
   * @param {() => Promise<string>} askKey is called when the server wants a key, or another one
   * @param {string|null} key
   */
  constructor(askKey, key) {
    this.askKey = askKey;
    this.key = key;
  }

  /** @returns {Promise<any>} the JSON at a path */
  async get(path) {
    return (await this.#send(path, {})).json();
  }

  /** @returns {Promise<any>} the JSON that answers `body` */
  async post(path, body, signal) {
    return (await this.#send(path, request(body, signal))).json();
  }

  /** @returns {Promise<number[]>} the ids of a text */
  async tokenize(text, isBeginning, signal) {
    const body = isBeginning ? { prompt: text } : { content: text };
    return (await this.post("/tokenize", body, signal)).tokens;
  }

  /** @returns {Promise<string>} a conversation as the model reads it */
  async applyTemplate(messages, signal) {
    return (await this.post("/apply-template", { messages }, signal)).prompt;
  }

  /**
   * Goes on behind `prompt`; gives the chunks as they come. Breaking off by `signal` ends the
   * server's work, too.
   *
   * @param {number[]} prompt
   * @param {object} sampling
   * @param {AbortSignal} signal
   */
  async *complete(prompt, sampling, signal) {
    const body = {
      prompt,
      temperature: sampling.temperature,
      top_p: sampling.topP,
      top_k: sampling.topK,
      min_p: sampling.minP,
      max_tokens: sampling.maxTokens,
      seed: sampling.seed,
      // Where sampling cut follows from the probabilities only without penalties.
      repetition_penalty: 1,
      logprobs: N_ALTERNATIVES,
      return_token_ids: true,
      stream: true,
      stream_options: { include_usage: true },
    };
    const response = await this.#send("/v1/completions", request(body, signal));
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    const parser = new EventParser();
    for (;;) {
      const { done, value } = await read(reader);
      if (done) throw lost();
      for (const { event, data } of parser.push(value)) {
        if (data === "[DONE]") return;
        const chunk = JSON.parse(data);
        if (event === "error" || chunk.error) throw errorOf(response.status, chunk);
        yield chunk;
      }
    }
  }

  async #send(path, options) {
    for (;;) {
      const headers = { ...options.headers };
      if (this.key) headers.Authorization = `Bearer ${this.key}`;
      const response = await reach(path, { ...options, headers });
      if (response.ok) return response;
      if (response.status !== 401) throw errorOf(response.status, await body(response));
      this.key = await this.askKey();
    }
  }
}

function request(body, signal) {
  const headers = { "Content-Type": "application/json" };
  return { method: "POST", headers, body: JSON.stringify(body), signal };
}

async function reach(path, options) {
  try {
    return await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "unreachable", "The server cannot be reached.");
  }
}

async function read(reader) {
  try {
    return await reader.read();
  } catch (error) {
    throw error.name === "AbortError" ? error : lost();
  }
}

function lost() {
  return new ApiError(0, "cut_off", "The connection to the server was lost.");
}

async function body(response) {
  try {
    return await response.json();
  } catch {
    return {};
  }
}

function errorOf(status, body) {
  const { code, message } = body.error ?? {};
  return new ApiError(status, code ?? "unknown", message ?? `The server answered ${status}.`);
}
