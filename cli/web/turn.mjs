// One turn on the page: what was asked, or an answer with its tokens.

import { commonTokens } from "./conversation.mjs";
import { h, keepingFocus } from "./dom.mjs";
import { counted, rate, seconds, surprise } from "./format.mjs";

/** What ended an answer, where it was not the model. */
const ENDS = { length: "reached the most tokens", stopped: "stopped" };

/**
 * What is asked.
 *
 * @param {object} node
 * @param {object} actions
 * @returns {HTMLElement}
 */
export function userTurn(node, actions) {
  return h("article", { class: "turn user", "aria-label": "You" },
    h("div", { class: "said" }, node.text),
    h("footer", {},
      siblings(node, actions),
      h("button", { type: "button", class: "quiet", click: () => actions.edit(node) }, "Edit")),
  );
}

/** An answer; `update` brings it up to date with its node, adding what is new alone. */
export class AnswerTurn {
  #nShown = 0;
  #tokens;
  #status;
  #buttons;
  #beside;

  /**
   * @param {object} node
   * @param {object} actions
   * @param {object|null} beside the answer that stands next to it
   */
  constructor(node, actions, beside) {
    this.node = node;
    this.actions = actions;
    this.#beside = beside;
    this.#tokens = h("div", {
      class: "said tokens",
      tabindex: "0",
      role: "group",
      "aria-label": "Answer",
      "aria-describedby": "tokens-help",
    });
    this.#tokens.node = node;
    this.#status = h("p", { class: "status" });
    this.#buttons = h("div", { class: "buttons" });
    this.element = h("article", { class: "turn answer", "aria-label": "Answer" },
      this.#tokens,
      h("footer", {}, this.#buttons, this.#status));
    this.update();
  }

  update() {
    const { node } = this;
    const nShared = this.#beside ? commonTokens(node, this.#beside) : 0;
    const fresh = document.createDocumentFragment();
    for (; this.#nShown < node.tokens.length; this.#nShown += 1) {
      fresh.append(this.#token(node.tokens[this.#nShown], this.#nShown, nShared));
    }
    this.#tokens.append(fresh);
    if (node.state === "done" && node.tail && !this.#tokens.querySelector(".tail")) {
      this.#tokens.append(h("span", { class: "tail" }, node.tail));
    }
    this.element.classList.toggle("running", node.state !== "done");
    this.element.setAttribute("aria-busy", String(node.state !== "done"));
    this.#status.replaceChildren(...this.#facts());
    const key = `${node.state} ${node.parent.children.length} ${node.finish}`;
    if (this.#buttons.dataset.key !== key) {
      this.#buttons.dataset.key = key;
      keepingFocus(this.#buttons, () => this.#buttons.replaceChildren(...this.#actions()));
    }
  }

  /** Gives the focus to the tokens, at this one. */
  focus(index) {
    this.#tokens.dataset.at = index;
    this.#tokens.focus({ preventScroll: true });
  }

  #token(token, index, nShared) {
    // The space before a word may be left hanging at a line's end: it is not shaded.
    const word = token.text.trimStart() || token.text;
    const space = token.text.slice(0, token.text.length - word.length);
    const element = h("span", { class: "token", "data-index": index }, space, h("span", {}, word));
    element.style.setProperty("--surprise", surprise(token.logprob).toFixed(3));
    element.classList.toggle("part", token.text === "");
    element.classList.toggle("chosen", Boolean(token.isChosen));
    element.classList.toggle("shared", index < nShared);
    return element;
  }

  #facts() {
    const { node } = this;
    const { times, usage } = node;
    const facts = [];
    if (node.error) {
      facts.push(h("strong", { class: "error", role: "alert" }, node.error.message));
    }
    if (node.fork) facts.push(fact(`forked at token ${node.fork.at + 1}`));
    if (times.nNew > 0) {
      const speed = rate(times);
      facts.push(fact(counted(node.tokens.length, "token")));
      if (speed) facts.push(fact(`${speed.toFixed(speed < 10 ? 1 : 0)} tokens/s`));
      facts.push(fact(`first after ${seconds(times.first - times.sent)}`));
    } else if (node.state !== "done") facts.push(fact("reading…"));
    if (usage) {
      const cached = usage.prompt_tokens_details.cached_tokens;
      const text = `${cached} of ${usage.prompt_tokens} prompt tokens from the cache`;
      const note = "Tokens that the model had read already, and that were not computed again";
      facts.push(h("span", { class: "cached", "data-cached": cached, title: note }, text));
    }
    if (ENDS[node.finish]) facts.push(fact(ENDS[node.finish]));
    if (node.state === "done" && node.seed !== null) facts.push(fact(`seed ${node.seed}`));
    return facts;
  }

  #actions() {
    const { node, actions } = this;
    const parts = [siblings(node, actions)].filter(Boolean);
    if (node.state !== "done") {
      parts.push(button("Stop", () => actions.stop(node)));
      return parts;
    }
    if (node.error || node.finish === "length" || node.finish === "stopped") {
      parts.push(button(node.error ? "Try again" : "Go on", () => actions.goOn(node)));
    }
    parts.push(button("Another answer", () => actions.another(node)));
    if (node.parent.children.length > 1 && !actions.isBeside()) {
      parts.push(button("Side by side", () => actions.compare(node)));
    }
    if (node.tokens.length > 0) {
      parts.push(button("Inspect", () => actions.inspect(this.#tokens, 0), "Look at the tokens one by one"));
      parts.push(button("Copy", () => actions.copy(node)));
    }
    return parts;
  }
}

/** The way to the other answers to the same, or to other wordings of it. */
function siblings(node, actions) {
  const all = node.parent.children;
  if (all.length < 2) return null;
  const at = all.indexOf(node);
  const step = (by, label, sign) => h("button", {
    type: "button",
    class: "quiet step",
    "aria-label": label,
    disabled: !all[at + by],
    click: () => actions.show(all[at + by], node),
  }, sign);
  return h("span", { class: "siblings", role: "group", "aria-label": "Branches here" },
    step(-1, "Branch before", "‹"),
    h("span", {}, `${at + 1} / ${all.length}`),
    step(1, "Next branch", "›"));
}

function button(label, click, title) {
  return h("button", { type: "button", class: "quiet", title, click }, label);
}

function fact(text) {
  return h("span", {}, text);
}
