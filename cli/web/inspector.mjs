// What a token was: its probability, the alternatives, and where sampling cut. Opens beside the
// token under the pointer, or beside the one that the arrow keys have gone to.

import { findCuts } from "./cuts.mjs";
import { byId, h } from "./dom.mjs";
import { percent, percentRange, spoken, visible } from "./format.mjs";

/** Milliseconds: a pointer that only passes opens nothing, one on its way to the box closes nothing. */
const OPEN_AFTER = 90;
const CLOSE_AFTER = 260;
const MARGIN = 8;

export class Inspector {
  #box = byId("inspector");
  #timer = 0;
  #token = null;
  #isPinned = false;

  /**
   * @param {HTMLElement} area where the tokens are
   * @param {object} actions
   * @param {(node: object, at: number, alternative: object) => void} actions.fork
   * @param {() => number} actions.nVocab
   * @param {(text: string) => void} actions.say
   */
  constructor(area, actions) {
    this.actions = actions;
    area.addEventListener("pointerover", (event) => this.#hover(event));
    area.addEventListener("pointerout", (event) => this.#leave(event));
    area.addEventListener("click", (event) => this.#click(event));
    area.addEventListener("keydown", (event) => this.#keyInText(event));
    area.addEventListener("focusin", (event) => this.#focus(event));
    area.addEventListener("focusout", (event) => this.#blur(event));
    this.#box.addEventListener("pointerenter", () => clearTimeout(this.#timer));
    this.#box.addEventListener("pointerleave", () => this.#closeSoon());
    this.#box.addEventListener("keydown", (event) => this.#keyInBox(event));
    this.#box.addEventListener("focusout", (event) => this.#blur(event));
    document.addEventListener("pointerdown", (event) => {
      if (!this.#box.contains(event.target) && !event.target.closest(".token")) this.close();
    });
    addEventListener("resize", () => this.close());
    byId("scroll").addEventListener("scroll", () => this.#follow(), { passive: true });
  }

  get isOpen() {
    return !this.#box.hidden;
  }

  /** Opens at a token of `tokens`, with the focus inside. */
  open(tokens, index) {
    this.#show(tokenAt(tokens, index), true);
    this.#first()?.focus();
  }

  close() {
    clearTimeout(this.#timer);
    this.#token?.classList.remove("current");
    this.#token = null;
    this.#isPinned = false;
    this.#box.hidden = true;
  }

  #hover(event) {
    const token = event.target.closest(".token");
    if (!token || event.pointerType === "touch" || this.#isPinned) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#show(token, false), OPEN_AFTER);
  }

  #leave(event) {
    if (event.target.closest(".token")) this.#closeSoon();
  }

  #closeSoon() {
    clearTimeout(this.#timer);
    if (!this.#isPinned) this.#timer = setTimeout(() => this.close(), CLOSE_AFTER);
  }

  #click(event) {
    const token = event.target.closest(".token");
    // Text that is being selected is no token that is being asked about.
    if (token && getSelection().isCollapsed) this.#show(token, true);
  }

  #focus(event) {
    const tokens = event.target;
    if (tokens.matches(".tokens") && tokens.matches(":focus-visible")) this.#walk(tokens, 0);
  }

  #blur(event) {
    const to = event.relatedTarget;
    const stays = to && (this.#box.contains(to) || to === this.#token?.parentElement);
    if (this.isOpen && this.#isPinned && !stays && to) this.close();
  }

  #keyInText(event) {
    if (!event.target.matches(".tokens")) return;
    const tokens = event.target;
    const last = tokens.querySelectorAll(".token").length - 1;
    const steps = { ArrowRight: 1, ArrowLeft: -1, Home: -last, End: last };
    if (event.key in steps) this.#walk(tokens, steps[event.key]);
    else if (event.key === "Enter" || event.key === "ArrowDown") this.#enter(tokens);
    else if (event.key === "Escape" && this.isOpen) this.close();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  #keyInBox(event) {
    const tokens = this.#token?.parentElement;
    const rows = [...this.#box.querySelectorAll("button")];
    const at = rows.indexOf(document.activeElement);
    const isStep = event.key === "ArrowRight" || event.key === "ArrowLeft";
    if (event.key === "ArrowDown") rows[Math.min(at + 1, rows.length - 1)]?.focus();
    else if (event.key === "ArrowUp" && at > 0) rows[at - 1].focus();
    else if (isStep) this.#stepInBox(tokens, event.key === "ArrowRight" ? 1 : -1);
    else if (["ArrowUp", "Escape", "Tab"].includes(event.key)) {
      tokens?.focus({ preventScroll: true });
      if (event.key !== "ArrowUp") this.close();
    } else return;
    event.preventDefault();
    event.stopPropagation();
  }

  #stepInBox(tokens, by) {
    this.#walk(tokens, by);
    this.#first()?.focus();
  }

  #enter(tokens) {
    if (!this.isOpen) this.#walk(tokens, 0);
    this.#first()?.focus();
  }

  #first() {
    return this.#box.querySelector("button[aria-current]") ?? this.#box.querySelector("button");
  }

  /** Goes so many tokens on and says what is there. */
  #walk(tokens, by) {
    const isHere = this.#token?.parentElement === tokens;
    const from = isHere ? Number(this.#token.dataset.index) : Number(tokens.dataset.at ?? 0);
    const n = tokens.querySelectorAll(".token").length;
    const token = tokenAt(tokens, Math.max(0, Math.min(n - 1, from + by)));
    if (!token) return;
    this.#show(token, true);
    token.scrollIntoView({ block: "nearest" });
    const { text, logprob } = this.#dataOf(token);
    this.actions.say(`${spoken(text)}, ${percent(Math.exp(logprob))}`);
  }

  #dataOf(token) {
    return token.parentElement.node.tokens[Number(token.dataset.index)];
  }

  #show(element, isPinned) {
    if (!element?.isConnected) return;
    clearTimeout(this.#timer);
    this.#token?.classList.remove("current");
    this.#token = element;
    this.#isPinned = isPinned;
    element.classList.add("current");
    element.parentElement.dataset.at = element.dataset.index;
    const node = element.parentElement.node;
    const at = Number(element.dataset.index);
    const fork = (alternative) => {
      this.close();
      this.actions.fork(node, at, alternative);
    };
    this.#box.replaceChildren(...contents(node.tokens[at], at, this.actions.nVocab(), fork));
    this.#box.hidden = false;
    this.#box.scrollTop = 0;
    this.#place();
  }

  #follow() {
    if (!this.isOpen) return;
    if (this.#isPinned) this.#place();
    else this.close();
  }

  /** Below the token where there is room, else above it; narrow pages have it at the bottom. */
  #place() {
    const token = this.#token.getClientRects()[0] ?? this.#token.getBoundingClientRect();
    const box = this.#box.getBoundingClientRect();
    const left = Math.min(token.left - 12, innerWidth - box.width - MARGIN);
    const below = token.bottom + 6;
    const isBelow = below + box.height + MARGIN < innerHeight || token.top < box.height + MARGIN;
    const top = isBelow ? Math.min(below, innerHeight - box.height - MARGIN) : token.top - box.height - 6;
    this.#box.style.setProperty("--left", `${Math.max(MARGIN, left)}px`);
    this.#box.style.setProperty("--top", `${Math.max(MARGIN, top)}px`);
  }
}

function tokenAt(tokens, index) {
  return tokens.querySelector(`.token[data-index="${index}"]`);
}

/** What the box says of a token. */
function contents(token, at, nVocab, fork) {
  const { top, sampling } = token;
  const cuts = findCuts(top.map(({ logprob }) => logprob), sampling, nVocab);
  const isListed = top.some(({ id }) => id === token.id);
  const list = h("ol", { class: "alternatives" });
  top.forEach((alternative, i) => {
    const here = cuts.lines.filter((line) => line.at === i);
    if (here.length > 0) list.append(cutLine(here, sampling));
    list.append(row(alternative, cuts.rows[i], alternative.id === token.id, fork));
  });
  if (!isListed) {
    // It was likelier than nothing that is listed, but it was drawn.
    const known = token.isChosen ? null : { status: "kept", low: 0, high: 0, isUnknown: true };
    list.append(row(token, known ?? { status: "cut", low: 0, high: 0 }, true, fork));
  }
  const tail = `${percent(cuts.unlisted)} in tokens that are not listed`;
  return [
    h("header", {},
      h("span", { class: "glyphs" }, visible(token.text)),
      h("span", {}, `token ${at + 1}`),
      h("span", {}, `id ${token.id}`)),
    h("p", { class: "heads" }, h("span", {}, "click one to go on from it"), h("span", {}, "model"), h("span", {}, "drawn")),
    list,
    h("p", { class: "tail" }, tail, ...noCut(cuts, sampling).map((text) => h("span", {}, text))),
  ];
}

function row(alternative, known, isDrawn, fork) {
  const p = Math.exp(alternative.logprob);
  const drawn = known.isUnknown ? "?" : percentRange(known.low, known.high);
  const classes = ["alternative", known.status, isDrawn ? "drawn" : ""].join(" ").trim();
  const name = `${spoken(alternative.text)}, ${percent(p)}, ${known.status === "cut" ? "cut off" : `drawn with ${drawn}`}`;
  const button = h("button", {
    type: "button",
    "aria-current": isDrawn ? "true" : null,
    "aria-label": isDrawn ? `${name}, the one that was taken` : name,
    "data-id": alternative.id,
    click: () => fork(alternative),
  },
    h("span", { class: "mass", "aria-hidden": "true" }),
    h("span", { class: "glyphs" }, visible(alternative.text)),
    h("span", { class: "number" }, percent(p)),
    h("span", { class: "number" }, known.status === "cut" ? "–" : drawn));
  button.style.setProperty("--p", p.toFixed(4));
  return h("li", { class: classes }, button);
}

/** The line where one filter cuts, or several do. */
function cutLine(lines, sampling) {
  const names = lines.map(({ filter, exact }) => `${exact ? "" : "≈ "}${filter} ${valueOf(filter, sampling)}`);
  const filters = lines.map(({ filter }) => filter).join(" ");
  return h("li", { class: "cut-line", "data-filters": filters },
    h("span", {}, `${names.join(" and ")} ${lines.length > 1 ? "cut" : "cuts"}`));
}

/** What the lines among the alternatives do not tell. */
function noCut(cuts, sampling) {
  if (sampling.temperature === 0) return ["temperature 0 takes the likeliest"];
  const hasTopP = cuts.lines.some(({ filter }) => filter === "top-p");
  return hasTopP || sampling.topP >= 1 ? [] : [`top-p ${sampling.topP} cuts none of these`];
}

function valueOf(filter, sampling) {
  return { "top-k": sampling.topK, "top-p": sampling.topP, "min-p": sampling.minP }[filter];
}
