// Text of times, durations and values.

const NUMBER = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const CLOCK = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });
const DATE = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" });

export const number = (value) => (typeof value === "number" ? NUMBER.format(value) : "–");

// The time of day, e.g. 16:04:31, and of another day the date, too.
export function clock(iso) {
  const time = new Date(iso);
  if (Number.isNaN(time.getTime())) return "–";
  return time.toDateString() === new Date().toDateString() ? CLOCK.format(time) : DATE.format(time);
}

// Seconds as a person reads them, e.g. 0.4 ms, 2.5 s, 12 min, 3 h 20 min.
export function duration(seconds) {
  if (seconds === null || seconds === undefined || Number.isNaN(seconds)) return "–";
  if (seconds < 0.9995) return `${NUMBER.format(seconds * 1000)} ms`;
  if (seconds < 60) return `${NUMBER.format(seconds)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${hours} h${minutes % 60 ? ` ${minutes % 60} min` : ""}`;
  return `${Math.floor(hours / 24)} days`;
}

// The time that a session has left, e.g. 4:07 or 3 h 20 min.
export function remaining(ms) {
  const seconds = Math.max(0, Math.ceil(ms / 1000));
  if (seconds >= 3600) return duration(seconds);
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
}

// The first characters of an id, e.g. 3f1c2a4b….
export const shortId = (id) => (String(id).length > 12 ? `${String(id).slice(0, 8)}…` : String(id));

// Any value as text: a text as it is, others as JSON.
export function plain(value, indent) {
  return typeof value === "string" ? value : JSON.stringify(value, null, indent) ?? "";
}

export const isEmpty = (value) => !value || Object.keys(value).length === 0;
