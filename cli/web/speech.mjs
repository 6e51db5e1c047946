// What a screen reader is told: an answer by whole sentences, not by tokens.

import { textOf } from "./conversation.mjs";
import { byId, h } from "./dom.mjs";
import { counted, sentences } from "./format.mjs";

/** Sentences that stay where a screen reader may still be reading. */
const KEPT = 12;

export class Speech {
  #live = byId("live");
  #log = byId("log");
  #node = null;
  #nSaid = 0;

  /** Says something once. */
  say(text) {
    this.#live.textContent = text;
  }

  /** Tells of this answer from now on; what it begins with has been told before. */
  begin(node) {
    this.#node = node;
    this.#nSaid = textOf(node).length;
    this.#log.replaceChildren();
  }

  /** Tells what has become whole since. */
  follow(node) {
    if (node !== this.#node) return;
    const text = textOf(node);
    const isDone = node.state === "done";
    const fresh = text.slice(this.#nSaid);
    const whole = isDone ? fresh : sentences(fresh)[0];
    this.#nSaid += whole.length;
    this.#tell(whole);
    if (!isDone) return;
    this.#tell(node.error ? node.error.message : `End of the answer, ${counted(node.tokens.length, "token")}`);
    this.#node = null;
  }

  #tell(text) {
    if (text.trim() === "") return;
    this.#log.append(h("p", {}, text));
    while (this.#log.children.length > KEPT) this.#log.firstChild.remove();
  }
}
