// The page: what is shown, what is running, and what the buttons do.

import { Api } from "./api.mjs";
import { Branches } from "./branches.mjs";
import { Composer } from "./composer.mjs";
import { Conversation, leafBelow, leaves, pathTo, textOf, visit } from "./conversation.mjs";
import { byId, h } from "./dom.mjs";
import { generate } from "./generation.mjs";
import { Inspector } from "./inspector.mjs";
import { askKey, keptKey } from "./key.mjs";
import { Settings } from "./settings.mjs";
import { Speech } from "./speech.mjs";
import { Thread } from "./thread.mjs";

/** Milliseconds between questions whether the model is loaded. */
const POLL = 500;
/** Pixels from the end within which a growing answer is followed. */
const NEAR = 80;
/** Width in pixels from which the panel is open from the beginning. */
const WIDE = 1100;
/** Width to which the panel lies over the conversation, as the style sheet has it. */
const OVERLAY = "60rem";
const THEMES = { auto: "light", light: "dark", dark: "auto" };
const EXAMPLES = {
  chat: ["Name three rivers and the seas they end in.", "Write a haiku about rain.", "Why is the sky blue?"],
  text: ["The first thing the lighthouse keeper noticed was", "Once upon a time", "The capital of France is"],
};

class App {
  #running = new Map();
  #changed = new Set();
  #model = { name: "", hasTemplate: true, stopIds: [], nVocab: Infinity };
  #isReady = false;
  #active = 0;

  constructor() {
    this.api = new Api(askKey, keptKey());
    this.speech = new Speech();
    this.composer = new Composer({
      send: (text, edited) => this.send(text, edited),
      stop: () => this.stop(this.end),
    });
    this.thread = new Thread(byId("thread"), this);
    this.branches = new Branches({ go: (leaf) => this.go(leaf), beside: (leaf) => this.beside(leaf) });
    this.inspector = new Inspector(byId("thread"), {
      fork: (...all) => this.fork(...all),
      nVocab: () => this.#model.nVocab,
      say: (text) => this.speech.say(text),
    });
    this.settings = new Settings(() => this.#look());
    this.#listen();
    this.restart();
  }

  /** The end of the branch that the next message goes to. */
  get end() {
    return this.ends[this.#active];
  }

  get isChat() {
    return this.#model.hasTemplate && this.settings.values.mode === "chat";
  }

  /** Begins anew; what is running is broken off. */
  restart() {
    for (const controller of this.#running.values()) controller.abort();
    this.conversation = new Conversation();
    this.ends = [this.conversation.root];
    this.#active = 0;
    this.#render();
  }

  /** Waits for the model and asks what it is. */
  async start() {
    this.#togglePanel(innerWidth >= WIDE);
    await this.#untilLoaded();
    const [models, props] = await Promise.all([this.api.get("/v1/models"), this.api.get("/props")]);
    const { n_ctx: nContext, params } = props.default_generation_settings;
    this.#model = {
      name: models.data[0].id,
      hasTemplate: props.has_chat_template,
      stopIds: props.stop_token_ids,
      nVocab: props.vocab_size,
    };
    this.#isReady = true;
    byId("model").textContent = this.#model.name;
    byId("model").title = `Reads up to ${nContext} tokens`;
    document.title = `${this.#model.name} · Onward`;
    byId("mode-field").hidden = !props.has_chat_template;
    this.settings.setDefaults(params);
    this.#render();
  }

  async #untilLoaded() {
    for (;;) {
      try {
        await this.api.get("/health");
        return;
      } catch (error) {
        byId("model").textContent = error.status === 503 ? "loading the model…" : error.message;
      }
      await new Promise((resolve) => setTimeout(resolve, POLL));
    }
  }

  send(text, edited) {
    const parent = edited?.parent ?? this.end;
    const user = this.conversation.addUser(parent, text);
    this.#run(this.conversation.addAnswer(user));
  }

  another(node) {
    const answer = this.conversation.addAnswer(node.parent);
    // With a seed that is set, others follow it: the same one would give the same text.
    this.#run(answer, node.parent.children.length - 1);
  }

  fork(node, at, alternative) {
    const side = this.ends.findIndex((end) => pathTo(end).includes(node));
    if (!pathTo(this.end).includes(node)) this.#active = Math.max(0, side);
    const made = this.conversation.fork(node, at, alternative);
    this.#run(made);
    this.thread.focus(made, at);
  }

  goOn(node) {
    this.#run(node);
  }

  stop(node) {
    this.#running.get(node)?.abort();
  }

  edit(node) {
    this.composer.edit(node);
  }

  async copy(node) {
    await navigator.clipboard?.writeText(textOf(node));
    this.speech.say("Copied");
  }

  inspect(tokens, index) {
    this.inspector.open(tokens, index);
  }

  isBeside() {
    return this.ends.length > 1;
  }

  /** Shows another answer in place of `node`. */
  show(sibling, node) {
    this.ends = this.ends.map((end) => (pathTo(end).includes(node) ? leafBelow(sibling) : end));
    if (this.ends[0] === this.ends[1]) this.ends.pop();
    this.#render();
  }

  go(leaf) {
    const shown = this.ends.indexOf(leaf);
    if (shown >= 0) this.#active = shown;
    else this.ends[this.#active] = leaf;
    this.#render();
  }

  beside(leaf) {
    if (leaf === this.end) return;
    this.ends = [this.end, leaf];
    this.#active = 1;
    this.#render();
  }

  /** Puts an answer and what it forked from side by side, or the one before it. */
  compare(node) {
    const all = node.parent.children;
    const other = node.fork?.of ?? all[all.indexOf(node) - 1] ?? all[1];
    const mine = this.end;
    this.ends = [leafBelow(other), mine].sort((one, two) => one.id - two.id);
    this.#active = this.ends.indexOf(mine);
    this.#render();
  }

  activate(side) {
    if (side === this.#active) return;
    this.#active = side;
    this.thread.mark(side);
    this.#compose();
  }

  turnColumn(side, by) {
    const all = leaves(this.conversation.root);
    const n = all.length;
    let at = (all.indexOf(this.ends[side]) + by + n) % n;
    if (all[at] === this.ends[1 - side]) at = (at + by + n) % n;
    this.ends[side] = all[at];
    this.#active = side;
    this.#render();
  }

  closeColumn(side) {
    this.ends.splice(side, 1);
    this.#active = 0;
    this.#render();
  }

  async #run(answer, nth = 0) {
    const controller = new AbortController();
    const sampling = this.settings.sampling();
    if (this.settings.values.seed !== null) sampling.seed += nth;
    const { system } = this.settings.values;
    const manner = { isChat: this.isChat, system, sampling, stopIds: this.#model.stopIds };
    this.#running.set(answer, controller);
    this.ends[this.#active] = answer;
    this.#render();
    this.#toEnd();
    this.speech.begin(answer);
    await generate(this.api, answer, manner, controller.signal, (node) => this.#note(node));
    this.#running.delete(answer);
    this.#compose();
    this.branches.show(this.conversation.root, this.ends);
  }

  /** Shows what has changed with the next frame: tokens may come faster than those. */
  #note(node) {
    if (this.#changed.size === 0) requestAnimationFrame(() => this.#update());
    this.#changed.add(node);
  }

  #update() {
    const scroll = byId("scroll");
    const isAtEnd = scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < NEAR;
    for (const node of this.#changed) {
      this.thread.update(node);
      this.speech.follow(node);
    }
    this.#changed.clear();
    if (isAtEnd) this.#toEnd();
  }

  #toEnd() {
    const scroll = byId("scroll");
    scroll.scrollTop = scroll.scrollHeight;
  }

  #render() {
    this.inspector.close();
    this.ends.forEach(visit);
    const { root } = this.conversation;
    byId("empty").hidden = root.children.length > 0;
    this.thread.show({ ends: this.ends, active: this.#active, root });
    document.body.classList.toggle("beside", this.isBeside());
    this.branches.show(root, this.ends);
    this.#compose();
  }

  #compose() {
    this.composer.show({ isReady: this.#isReady, isRunning: this.#running.has(this.end), isChat: this.isChat });
  }

  /** Follows a change of the settings. */
  #look() {
    if (!this.settings) return;
    const { theme } = this.settings.values;
    byId("theme").textContent = { auto: "Auto", light: "Light", dark: "Dark" }[theme];
    byId("theme").setAttribute("aria-label", `Colours: ${theme}`);
    byId("system-field").hidden = !this.isChat;
    const examples = EXAMPLES[this.isChat ? "chat" : "text"];
    byId("examples").replaceChildren(...examples.map((text) => h("button", {
      type: "button",
      click: () => this.composer.fill(text),
    }, text)));
    this.#compose();
  }

  #listen() {
    byId("new").addEventListener("click", () => {
      this.restart();
      this.composer.focus();
    });
    byId("theme").addEventListener("click", () => {
      this.settings.set("theme", THEMES[this.settings.values.theme]);
    });
    byId("panel-toggle").addEventListener("click", () => this.#togglePanel(byId("panel").hidden));
    byId("panel-close").addEventListener("click", () => {
      this.#togglePanel(false);
      byId("panel-toggle").focus();
    });
    addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      if (this.inspector.isOpen) this.inspector.close();
      else if (matchMedia(`(max-width: ${OVERLAY})`).matches && !byId("panel").hidden) this.#togglePanel(false);
      else this.stop(this.end);
    });
  }

  #togglePanel(isOpen) {
    byId("panel").hidden = !isOpen;
    byId("panel-toggle").setAttribute("aria-expanded", String(isOpen));
    document.body.classList.toggle("with-panel", isOpen);
  }
}

const app = new App();
app.start().catch((error) => {
  byId("model").textContent = error.message;
});
