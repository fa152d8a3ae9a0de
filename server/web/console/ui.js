// The small pieces that screens are made of. Text only ever becomes text: nothing here reads markup.
import { lang, t } from "./i18n.js";

const SVG = new Set(["svg", "path", "rect", "text"]);
export const $ = (selector, root = document) => root.querySelector(selector);

/** An element: h("p.note", { id: "a", onclick }, "text", node, [more]); properties and whatever is false may be left out. */
export function h(tag, props, ...kids) {
  const [name, ...classes] = tag.split(".");
  const e = SVG.has(name) ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  if (props == null || typeof props !== "object" || props.nodeType || Array.isArray(props)) {
    kids.unshift(props);
    props = {};
  }
  if (classes.length) e.setAttribute("class", classes.join(" "));
  if (name === "button") e.type = "button";
  for (const [key, value] of Object.entries(props)) {
    const isAria = key.startsWith("aria-");
    if (key.startsWith("on")) e.addEventListener(key.slice(2), value);
    else if (value != null && (isAria || value !== false)) e.setAttribute(key, value === true && !isAria ? "" : value);
  }
  return add(e, kids);
}
export function add(e, ...kids) {
  e.append(
    ...kids
      .flat(9)
      .filter((kid) => kid != null && kid !== false && kid !== true)
      .map((kid) => (kid.nodeType ? kid : String(kid))),
  );
  return e;
}
export function fill(e, ...kids) {
  e.replaceChildren();
  return add(e, ...kids);
}
/** Sets a text only where it differs: what stays is neither laid out nor spoken again. */
export function put(e, text) {
  if (e.textContent !== text) e.textContent = text;
}

// Figures
export const num = (n, digits = 0) => n.toLocaleString(lang(), { maximumFractionDigits: digits });
export const bytes = (n) => {
  const power = n < 1e3 ? 0 : n < 999_950 ? 1 : n < 999.95e6 ? 2 : 3;
  return `${num(n / 1e3 ** power, power && 1)} ${["B", "kB", "MB", "GB"][power]}`;
};
export const clock = (time = Date.now()) => new Date(time).toTimeString().slice(0, 8);
/** "0.4 ms", "42 s", "4 min", "5 h", "12 d 4 h" */
export function span(seconds) {
  const s = Math.max(0, seconds),
    whole = Math.floor;
  if (s < 1) return `${num(s * 1e3, s < 0.01 ? 1 : 0)} ms`;
  if (s < 60) return `${num(s, s < 10 ? 1 : 0)} s`;
  if (s < 3600) return `${whole(s / 60)} min`;
  if (s < 86400) return `${whole(s / 3600)} h ${s < 36000 ? `${whole(s / 60) % 60} min` : ""}`.trim();
  return `${whole(s / 86400)} d ${whole(s / 3600) % 24 ? `${whole(s / 3600) % 24} h` : ""}`.trim();
}
export const still = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

let said = 0,
  saying;
/** Has a screen reader say it, at most one sentence a second. */
export function say(text) {
  clearTimeout(saying);
  saying = setTimeout(
    () => {
      said = Date.now();
      $("#say").textContent = text;
    },
    Math.max(0, said + 1000 - Date.now()),
  );
}

// Parts of a screen
/** The first line of a screen: its name, something about it, what can be done. */
export const head = (title, about, ...act) =>
  h("div.head", h("h1", { tabindex: -1 }, title), about && h("p", about), act.length > 0 && h("div.act", act));
/** Words where there is nothing yet, or nothing was found. */
export const none = (title, ...kids) => h("div.none", h("h2", title), kids);
/** A refusal or a failure, in the words of the service, and a way to ask once more. */
export const refused = (title, why, again) =>
  h(
    "div.none.bad",
    h("h2", title),
    h("p", h("code", String(why?.message ?? why))),
    again && h("button", { onclick: again }, t("Ask again")),
  );
/** Grey bars, seen only where the answer takes longer than 300 ms. */
export const waiting = () =>
  h(
    "div.waits",
    { "aria-busy": "true" },
    [82, 60, 70, 44, 64].map((n) =>
      h("svg.wait", { "aria-hidden": "true" }, h("rect", { width: `${n}%`, height: 12, rx: 3 })),
    ),
  );
export const dot = (kind, text) => h("span.line", h(`span.dot${kind && `.${kind}`}`), text);
export const pairs = (list) =>
  h(
    "dl.pairs",
    list.map(([key, value, kind]) => [h(`dt${kind ?? ""}`, key), h("dd", value)]),
  );

// Controls
/** A field to search in, which "/" leads to. */
export const find = (label, oninput, value = "") =>
  h("input.field", {
    type: "search",
    placeholder: label,
    "aria-label": label,
    "aria-keyshortcuts": "/",
    value,
    oninput: (e) => oninput(e.target.value),
  });
export const toggle = (label, onchange, on = false) =>
  h(
    "label.sw",
    h("input", { type: "checkbox", role: "switch", checked: on, onchange: (e) => onchange(e.target.checked) }),
    label,
  );
/** A button that copies what text() gives. */
export function copier(text, label = t("Copy")) {
  const button = h(
    "button.text",
    {
      async onclick() {
        const done = await navigator.clipboard?.writeText(text()).then(
          () => true,
          () => false,
        );
        put(button, t(done ? "Copied" : "Not permitted"));
        setTimeout(() => put(button, label), 1200);
      },
    },
    label,
  );
  return button;
}
/** Tabs of [id, text]; off(id) says which cannot be chosen. Arrow keys move; nothing is hidden by them, choose(id) does what is to be done. */
export function tabs(label, items, chosen, choose, off = () => false) {
  const list = h("div.tabs", { role: "tablist", "aria-label": label, onkeydown });
  const buttons = items.map(([id, text]) =>
    h("button", { role: "tab", "data-id": id, disabled: off(id), onclick: () => (show(id), choose(id)) }, text),
  );
  function show(id) {
    for (const button of buttons) {
      const on = button.dataset.id === id;
      button.setAttribute("aria-selected", on);
      button.tabIndex = on ? 0 : -1;
    }
  }
  function onkeydown(e) {
    const on = buttons.filter((button) => !button.disabled),
      step = { ArrowRight: 1, ArrowLeft: -1 }[e.key];
    if (!step) return;
    const next = on[(on.indexOf(document.activeElement) + step + on.length) % on.length];
    next.focus();
    next.click();
    e.preventDefault();
  }
  show(chosen);
  return add(list, buttons);
}
/** A few choices of which one is pressed. */
export function choices(label, items, chosen, choose) {
  const buttons = items.map(([id, text]) =>
    h("button", { "data-id": id, onclick: () => (show(id), choose(id)) }, text),
  );
  const show = (id) => buttons.forEach((button) => button.setAttribute("aria-pressed", button.dataset.id === id));
  show(chosen);
  return h("span.seg", { role: "group", "aria-label": label }, buttons);
}
