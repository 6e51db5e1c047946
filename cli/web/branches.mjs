// All branches of the conversation as a tree: one row a turn, indented where it forks.

import { leafBelow, outline, pathTo, textOf } from "./conversation.mjs";
import { byId, h } from "./dom.mjs";
import { counted, shortened } from "./format.mjs";

/** Characters of a turn that are shown. */
const SHOWN = 60;

export class Branches {
  #tree = byId("tree");
  #note = byId("tree-note");

  /** @param {{go: (leaf: object) => void, beside: (leaf: object) => void}} actions */
  constructor(actions) {
    this.actions = actions;
    this.#tree.addEventListener("keydown", (event) => this.#key(event));
  }

  /**
   * @param {object} root
   * @param {object[]} ends what is on the page
   */
  show(root, ends) {
    const rows = outline(root);
    const onPage = new Set(ends.flatMap(pathTo));
    const nBranches = rows.filter(({ node }) => node.children.length === 0).length;
    this.#note.textContent = rows.length === 0
      ? "Nothing yet. Click a token’s alternative to fork the answer there."
      : counted(nBranches, "branch").replace("branchs", "branches");
    const focused = this.#tree.contains(document.activeElement) ? document.activeElement.dataset.node : null;
    this.#tree.replaceChildren(...rows.map((row) => this.#row(row, onPage, ends)));
    const items = this.#items();
    const current = items.find((item) => item.dataset.node === focused) ?? items.find((item) => item.matches("[aria-current]"));
    for (const item of items) item.tabIndex = -1;
    const stop = current ?? items[0];
    if (stop) stop.tabIndex = 0;
    if (focused !== null) stop?.focus();
  }

  #row({ node, depth }, onPage, ends) {
    const siblings = node.parent.children;
    const isEnd = ends.includes(node);
    const text = shortened(ownText(node), SHOWN) || (node.state === "done" ? "(nothing)" : "…");
    const forked = node.fork ? `from token ${node.fork.at + 1}: ` : "";
    const row = h("div", {
      role: "treeitem",
      class: `branch ${node.role}${onPage.has(node) ? " on-page" : ""}`,
      "aria-level": depth + 1,
      "aria-posinset": siblings.indexOf(node) + 1,
      "aria-setsize": siblings.length,
      "aria-selected": String(onPage.has(node)),
      "aria-current": isEnd ? "true" : null,
      "data-node": node.id,
      tabindex: "-1",
      title: isEnd ? null : "Go to this branch; with Shift put it beside the other",
      click: (event) => this.#go(node, event.shiftKey),
    },
      h("span", { class: "who" }, node.role === "user" ? "you" : "it"),
      h("span", { class: "text" }, forked ? h("em", {}, forked) : null, text));
    row.style.setProperty("--depth", depth);
    return row;
  }

  #go(node, isBeside) {
    const leaf = leafBelow(node);
    if (isBeside) this.actions.beside(leaf);
    else this.actions.go(leaf);
  }

  #items() {
    return [...this.#tree.querySelectorAll("[role=treeitem]")];
  }

  #key(event) {
    const items = this.#items();
    const at = items.indexOf(document.activeElement);
    if (at < 0) return;
    const steps = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: items.length - 1 };
    const level = Number(items[at].getAttribute("aria-level"));
    if (event.key in steps) focusOn(items, items[Math.max(0, Math.min(items.length - 1, steps[event.key]))]);
    else if (event.key === "ArrowLeft") {
      const up = items.slice(0, at).findLast((item) => Number(item.getAttribute("aria-level")) < level);
      focusOn(items, up ?? items[at]);
    } else if (event.key === "Enter" || event.key === " ") {
      items[at].dispatchEvent(new MouseEvent("click", { shiftKey: event.shiftKey }));
    } else return;
    event.preventDefault();
  }
}

/** What a turn says; of a fork, what it says otherwise. */
function ownText(node) {
  const text = textOf(node);
  if (!node.fork) return text;
  const before = node.tokens.slice(0, node.fork.at).map((token) => token.text).join("");
  return text.slice(before.length);
}

function focusOn(items, item) {
  for (const other of items) other.tabIndex = other === item ? 0 : -1;
  item.focus();
}
