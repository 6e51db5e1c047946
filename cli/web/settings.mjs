// The form with the sampling's parameters and the look of the page. It is kept in this browser.

import { byId } from "./dom.mjs";

const KEY = "onward.settings";
/** Fields that are numbers; an empty one means that nothing is set. */
const NUMBERS = ["temperature", "topP", "topK", "minP", "maxTokens", "seed"];
const TEXTS = ["system", "mode", "face", "theme"];
const FALLBACK = { temperature: 0.8, topP: 0.95, topK: 40, minP: 0.05 };

export class Settings {
  #defaults = { ...FALLBACK, maxTokens: 512, seed: null, system: "", mode: "chat", face: "serif", theme: "auto", shade: true };

  /** @param {() => void} changed is called when the look or the manner has changed */
  constructor(changed) {
    this.changed = changed;
    this.form = byId("settings");
    this.form.addEventListener("input", (event) => this.#take(event.target));
    this.form.addEventListener("submit", (event) => event.preventDefault());
    byId("reset").addEventListener("click", () => this.reset());
    this.values = { ...this.#defaults, ...stored() };
    this.#show();
  }

  /** Takes what the server says is right for its model. */
  setDefaults(params) {
    const recommended = {
      temperature: params.temperature,
      topP: params.top_p,
      topK: params.top_k,
      minP: params.min_p,
    };
    Object.assign(this.#defaults, recommended);
    this.values = { ...this.#defaults, ...stored() };
    this.#show();
  }

  reset() {
    const { system, mode, face, theme, shade } = this.values;
    this.values = { ...this.#defaults, system, mode, face, theme, shade };
    this.#keep();
    this.#show();
  }

  set(name, value) {
    this.values[name] = value;
    this.#keep();
    this.#show();
  }

  /** How the next answer is to be drawn; a seed is always known, so that it can be asked for again. */
  sampling() {
    const { temperature, topP, topK, minP, maxTokens, seed } = this.values;
    const own = seed ?? crypto.getRandomValues(new Uint32Array(1))[0];
    return { temperature, topP, topK, minP, maxTokens: maxTokens ?? undefined, seed: own };
  }

  #take(field) {
    const name = field.name;
    if (NUMBERS.includes(name) && !field.validity.valid) return;
    if (NUMBERS.includes(name)) this.values[name] = number(field.value, this.#defaults[name]);
    else this.values[name] = field.type === "checkbox" ? field.checked : field.value;
    this.#keep();
    this.#show(field);
  }

  #show(source) {
    for (const name of [...NUMBERS, ...TEXTS]) {
      for (const field of this.form.querySelectorAll(`[name="${name}"]`)) {
        // A field that is being written in is left alone.
        if (field !== source) field.value = this.values[name] ?? "";
      }
    }
    this.form.elements.shade.checked = this.values.shade;
    const root = document.documentElement;
    root.dataset.theme = this.values.theme;
    root.dataset.face = this.values.face;
    root.dataset.shade = this.values.shade ? "on" : "off";
    this.changed();
  }

  /** Keeps what differs from the defaults, which may be another model's next time. */
  #keep() {
    const own = Object.entries(this.values).filter(([name, value]) => value !== this.#defaults[name]);
    try {
      localStorage.setItem(KEY, JSON.stringify(Object.fromEntries(own)));
    } catch {
      // A browser that keeps nothing still has them until it leaves the page.
    }
  }
}

function number(text, empty) {
  return text.trim() === "" ? empty : Number(text);
}

function stored() {
  try {
    return JSON.parse(localStorage.getItem(KEY)) ?? {};
  } catch {
    return {};
  }
}
