// Elements made by name. Text becomes text nodes: nothing is ever read as HTML.

/**
 * @param {string} tag
 * @param {object} [properties] attributes; functions are listeners; false and null leave one out
 * @param {...(Node|string|null)} children
 * @returns {HTMLElement}
 */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child != null));
  return element;
}

/** @returns {HTMLElement} the element of this id, which the page has */
export function byId(id) {
  return document.getElementById(id);
}

/**
 * Makes a change that replaces buttons, and leaves the focus on the one that is now where the
 * focused one was: who uses the keyboard would otherwise be back at the top of the page.
 *
 * @param {HTMLElement} container
 * @param {() => void} change
 */
export function keepingFocus(container, change) {
  const active = document.activeElement;
  const isButton = container.contains(active) && active.matches("button");
  const turn = isButton ? turnsOf(container).indexOf(active.closest(".turn")) : -1;
  const name = isButton ? nameOf(active) : "";
  change();
  if (!isButton || active.isConnected) return;
  const same = turnsOf(container)[turn] ?? container;
  // Of two columns it is the one that the next message goes to.
  const within = same.closest(".column") ? container.querySelector(".column.active") : same;
  const buttons = [...within.querySelectorAll("button:enabled")];
  (buttons.find((button) => nameOf(button) === name) ?? buttons[0])?.focus({ preventScroll: true });
}

function turnsOf(container) {
  return [...container.querySelectorAll(".turn")];
}

function nameOf(button) {
  return button.getAttribute("aria-label") ?? button.textContent;
}
