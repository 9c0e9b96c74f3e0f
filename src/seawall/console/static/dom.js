// Views are functions that call h(). With preact they are compared and patched; without it (a clone that has not fetched
// the libraries) each slot is drawn anew when it differs.
let preact = null;

export async function begin(libraries) {
  if (libraries.includes("preact")) preact = await import("/console/lib/preact.mjs");
}

export function h(tag, props, ...children) {
  return preact ? preact.h(tag, props, ...children) : element(tag, props, children);
}

export function draw(view, slot) {
  if (preact) return preact.render(view, slot);
  const fresh = document.createElement("div");
  fresh.append(view);
  const held = slot.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  if (fresh.innerHTML === slot.innerHTML) return;
  slot.replaceChildren(...fresh.childNodes);
  if (held) slot.querySelector(`[data-key="${CSS.escape(held)}"]`)?.focus();
}

function element(tag, props, children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(props ?? {})) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2).toLowerCase(), value);
    else if (name === "key" || value === null || value === undefined || value === false) continue;
    else made.setAttribute(name === "className" ? "class" : name, value === true ? "" : value);
  }
  made.append(...children.flat(9).filter((c) => c !== null && c !== undefined && c !== false));
  return made;
}
