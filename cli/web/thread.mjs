// The conversation on the page: one branch, or two side by side below what they share.

import { commonTurns, leaves, pathTo } from "./conversation.mjs";
import { h, keepingFocus } from "./dom.mjs";
import { AnswerTurn, userTurn } from "./turn.mjs";

export class Thread {
  /** @type {Map<object, AnswerTurn>} */
  #turns = new Map();

  /**
   * @param {HTMLElement} element
   * @param {object} actions what the buttons do
   */
  constructor(element, actions) {
    this.element = element;
    this.actions = actions;
  }

  /**
   * Shows the branches that end in these nodes.
   *
   * @param {object} view
   * @param {object[]} view.ends one leaf or two
   * @param {number} view.active which of them the next question goes to
   * @param {object} view.root
   */
  show(view) {
    keepingFocus(this.element, () => this.#replace(view));
  }

  #replace({ ends, active, root }) {
    this.#turns.clear();
    const paths = ends.map(pathTo);
    if (paths.length === 1) {
      this.element.replaceChildren(...paths[0].map((node) => this.#turn(node, null)));
      return;
    }
    const n = commonTurns(...paths);
    const all = leaves(root);
    const columns = ends.map((end, side) => {
      const [own, other] = [paths[side], paths[1 - side]];
      const head = this.#head(side, all.indexOf(end), all.length, side === active);
      const turns = own.slice(n).map((node, i) => this.#turn(node, besideOf(node, other[n + i])));
      return h("section", {
        class: side === active ? "column active" : "column",
        "aria-label": `Branch ${all.indexOf(end) + 1}`,
        focusin: () => this.actions.activate(side),
        pointerdown: () => this.actions.activate(side),
      }, head, ...turns);
    });
    this.element.replaceChildren(
      ...paths[0].slice(0, n).map((node) => this.#turn(node, null)),
      h("div", { class: "columns" }, ...columns));
  }

  /** Brings one answer up to date. */
  update(node) {
    this.#turns.get(node)?.update();
  }

  /** Gives the focus to an answer, at this token. */
  focus(node, index) {
    this.#turns.get(node)?.focus(index);
  }

  /** Marks the column that the next question goes to. */
  mark(active) {
    this.element.querySelectorAll(".column").forEach((column, side) => {
      column.classList.toggle("active", side === active);
    });
  }

  #turn(node, beside) {
    if (node.role === "user") return userTurn(node, this.actions);
    const turn = new AnswerTurn(node, this.actions, beside);
    this.#turns.set(node, turn);
    return turn.element;
  }

  #head(side, at, n) {
    const step = (by, label, sign) => h("button", {
      type: "button",
      class: "quiet step",
      "aria-label": label,
      click: () => this.actions.turnColumn(side, by),
    }, sign);
    const close = h("button", {
      type: "button",
      class: "quiet",
      "aria-label": `Close branch ${at + 1}`,
      click: () => this.actions.closeColumn(side),
    }, "Close");
    return h("header", {},
      step(-1, "Branch before in this column", "‹"),
      h("span", { class: "name" }, `Branch ${at + 1} of ${n}`),
      step(1, "Next branch in this column", "›"),
      close);
  }
}

/** Two answers are held against each other where they answer the same. */
function besideOf(node, other) {
  const areAlike = other && node.role === "answer" && other.parent === node.parent;
  return areAlike ? other : null;
}
