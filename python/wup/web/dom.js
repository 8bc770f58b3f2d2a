// Small helpers for elements and for numbers as people read them.

/** An element with attributes (`class`, `data-…`, `aria-…`) and children. */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

export const by = (id) => document.getElementById(id);

/** Writes text only when it is another: most of what is drawn again has not changed. */
export function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Exact decimal text with its thousands apart. */
export function grouped(text) {
  if (text.length < 4) return text;
  const point = text.indexOf(".");
  const whole = point < 0 ? text : text.slice(0, point);
  if (whole.length < 4) return text;
  return whole.replace(/\B(?=(\d{3})+$)/g, ",") + (point < 0 ? "" : text.slice(point));
}

/** Half of a sum of two prices in millionths, exactly. */
export function middle(sum) {
  return (sum / 2_000_000).toFixed(7).replace(/\.?0+$/, "");
}

/** A duration for people: "40 ms", "3.2 s", "2 min". */
export function age(ms) {
  if (ms < 1_000) return `${Math.max(0, Math.round(ms / 10) * 10)} ms`;
  if (ms < 10_000) return `${(ms / 1_000).toFixed(1)} s`;
  if (ms < 120_000) return `${Math.round(ms / 1_000)} s`;
  return `${Math.round(ms / 60_000)} min`;
}

/** Microseconds since 1970, by this machine, finer than a millisecond. */
export const nowUs = () => (performance.timeOrigin + performance.now()) * 1_000;

const timeOfDay = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
/** The time of day of microseconds since 1970. */
export const clock = (us) => timeOfDay.format(us / 1_000);
