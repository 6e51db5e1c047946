// The key that a server may want. It is kept for this tab alone.

import { byId } from "./dom.mjs";

const KEY = "onward.key";
/** Requests that are refused at the same time wait for one answer. */
let asking = null;

/** @returns {string|null} */
export function keptKey() {
  try {
    return sessionStorage.getItem(KEY);
  } catch {
    return null;
  }
}

/** @returns {Promise<string>} what the person gives */
export function askKey() {
  asking ??= ask().finally(() => {
    asking = null;
  });
  return asking;
}

function ask() {
  const dialog = byId("key-dialog");
  const field = byId("key");
  if (keptKey() !== null) byId("key-note").textContent = "That key was not the right one.";
  field.value = "";
  dialog.showModal();
  // Without a key there is nothing behind the dialog to go back to.
  dialog.addEventListener("cancel", (event) => event.preventDefault());
  return new Promise((resolve) => {
    byId("key-form").addEventListener("submit", (event) => {
      event.preventDefault();
      dialog.close();
      try {
        sessionStorage.setItem(KEY, field.value);
      } catch {
        // It is asked for again when the page is loaded again.
      }
      resolve(field.value);
    }, { once: true });
  });
}
