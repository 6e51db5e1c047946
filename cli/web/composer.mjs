// Where messages are written.

import { textOf } from "./conversation.mjs";
import { byId } from "./dom.mjs";

export class Composer {
  #input = byId("input");
  #send = byId("send");
  #edited = null;
  #isRunning = false;
  #isReady = false;

  /** @param {{send: (text: string, edited: object|null) => void, stop: () => void}} actions */
  constructor(actions) {
    this.actions = actions;
    byId("composer").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    this.#input.addEventListener("input", () => this.#fit());
    this.#input.addEventListener("keydown", (event) => {
      // Enter may end the writing of a character of some scripts.
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        if (!this.#isRunning) this.#submit();
      } else if (event.key === "Escape" && this.#edited) {
        this.#endEdit();
        event.stopPropagation();
      }
    });
    byId("cancel-edit").addEventListener("click", () => this.#endEdit());
  }

  show({ isReady, isRunning, isChat }) {
    this.#isReady = isReady;
    this.#isRunning = isRunning;
    this.#send.textContent = isRunning ? "Stop" : "Send";
    this.#send.classList.toggle("stop", isRunning);
    this.#send.disabled = !isReady;
    this.#input.placeholder = isChat ? "Message" : "A text to go on from";
  }

  fill(text) {
    this.#input.value = text;
    this.#fit();
    this.focus();
  }

  focus() {
    this.#input.focus();
  }

  /** What is sent next stands beside this message. */
  edit(node) {
    this.#edited = node;
    byId("editing").hidden = false;
    this.fill(textOf(node));
  }

  #endEdit() {
    this.#edited = null;
    byId("editing").hidden = true;
    this.fill("");
  }

  #submit() {
    if (this.#isRunning) {
      this.actions.stop();
      return;
    }
    const text = this.#input.value;
    if (text.trim() === "" || !this.#isReady) return;
    const edited = this.#edited;
    this.#endEdit();
    this.actions.send(text, edited);
  }

  /** As high as its text, to a limit that the style sheet sets. */
  #fit() {
    this.#input.style.height = "auto";
    this.#input.style.height = `${this.#input.scrollHeight + 2}px`;
  }
}
