// Server-sent events taken apart while they arrive, by the rules of the HTML standard. Pure.

/** Takes text in pieces of any size; an event is given once its empty line is there. */
export class EventParser {
  #line = "";
  #sawReturn = false;
  #name = "";
  #data = [];

  /**
   * @param {string} text
   * @returns {{event: string, data: string}[]} the events that `text` completes
   */
  push(text) {
    const events = [];
    for (const character of text) {
      // A carriage return ends a line, and the line feed behind it belongs to it.
      if (character === "\n" && this.#sawReturn) {
        this.#sawReturn = false;
        continue;
      }
      this.#sawReturn = character === "\r";
      if (character !== "\n" && character !== "\r") {
        this.#line += character;
        continue;
      }
      const event = this.#endLine();
      if (event) events.push(event);
    }
    return events;
  }

  #endLine() {
    const line = this.#line;
    this.#line = "";
    if (line === "") return this.#endEvent();
    const colon = line.indexOf(":");
    // A line that begins with a colon is a comment: it keeps the connection alive.
    if (colon === 0) return null;
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "data") this.#data.push(value);
    if (field === "event") this.#name = value;
    return null;
  }

  #endEvent() {
    const event = { event: this.#name || "message", data: this.#data.join("\n") };
    const isEmpty = this.#data.length === 0;
    this.#name = "";
    this.#data = [];
    return isEmpty ? null : event;
  }
}
