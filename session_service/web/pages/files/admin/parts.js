// What several views use: polling, dialogs, errors, figures.

import { html, useEffect, useLayoutEffect, useRef, useState } from "./htm-preact.js";

const MOST_PATIENCE = 12; // times the interval, while requests fail

let announce = () => {};

// Shows a short text, which screen readers also read.
export function say(text) {
  announce(text);
}

export function Announcements() {
  const [text, setText] = useState("");
  useEffect(() => {
    let timer;
    announce = (said) => {
      clearTimeout(timer);
      setText(said);
      timer = setTimeout(() => setText(""), 6000);
    };
    return () => clearTimeout(timer);
  }, []);
  return html`<div class="toast" role="status">${text && html`<p>${text}</p>`}</div>`;
}

// Calls `load(signal)` now, whenever `deps` change, and every `seconds` while the page is visible.
// Returns {value, error, again}. A refusal (403) ends it: it would be the same the next time.
export function usePoll(load, seconds, deps) {
  const [state, setState] = useState({});
  const again = useRef(() => {});
  useEffect(() => {
    let stop = new AbortController();
    let timer;
    let failures = 0;
    setState({});
    const wait = () => {
      const patience = Math.min(2 ** failures, MOST_PATIENCE);
      timer = setTimeout(() => (document.hidden ? wait() : run()), seconds * 1000 * patience);
    };
    async function run() {
      clearTimeout(timer);
      stop.abort();
      stop = new AbortController();
      const { signal } = stop;
      try {
        const value = await load(signal);
        if (signal.aborted) return;
        failures = 0;
        setState({ value });
      } catch (error) {
        if (signal.aborted) return;
        failures += 1;
        setState((old) => ({ value: old.value, error }));
        if (error.status === 403) return;
      }
      wait();
    }
    again.current = run;
    run();
    return () => {
      clearTimeout(timer);
      stop.abort();
    };
  }, deps);
  return { ...state, again: () => again.current() };
}

// Renders every second, for what counts down.
export function useSeconds() {
  const [, setNow] = useState(0);
  useEffect(() => {
    const timer = setInterval(() => setNow((n) => n + 1), 1000);
    return () => clearInterval(timer);
  }, []);
}

export function ErrorNote({ error, retry }) {
  if (!error) return null;
  const details = error.details && error.details !== error.message ? error.details : "";
  return html`
    <div class="note bad" role="alert">
      <p><strong>${refusal(error)}</strong> <span class="data">${String(error.message)}</span></p>
      ${details && html`<p class="data">${details}</p>`}
      <p class="faint">
        ${error.status ? `${error.status} ` : ""}${error.code}
        ${error.requestId && html` · request <code>${error.requestId}</code>`}
      </p>
      ${retry && html`<button type="button" onClick=${retry}>Try again</button>`}
    </div>
  `;
}

function refusal(error) {
  if (error.status === 401) return "The credential is not accepted.";
  if (error.status === 403) return "Your credential does not permit this.";
  return "";
}

// A modal dialog; Escape closes it, and the focus returns to the element that had it.
export function Dialog({ title, onClose, children }) {
  const ref = useRef(null);
  useLayoutEffect(() => {
    const opener = document.activeElement;
    const dialog = ref.current;
    dialog.showModal();
    return () => {
      dialog.close();
      // What was done may have removed the opener, once this update is over.
      queueMicrotask(() => (opener?.isConnected ? opener : document.getElementById("title"))?.focus());
    };
  }, []);
  return html`
    <dialog ref=${ref} aria-labelledby="dialog-title" onCancel=${onClose}>
      <h2 id="dialog-title">${title}</h2>
      ${children}
    </dialog>
  `;
}

// A dialog that asks before `act()`. The focus is on Cancel, its first element; an error keeps it open.
export function Confirm({ title, action, act, onClose, children }) {
  const [error, setError] = useState(null);
  const [isBusy, setBusy] = useState(false);
  const confirm = async () => {
    setBusy(true);
    try {
      await act();
      onClose();
    } catch (failure) {
      setError(failure);
      setBusy(false);
    }
  };
  return html`
    <${Dialog} title=${title} onClose=${onClose}>
      ${children}
      <${ErrorNote} error=${error} />
      <div class="actions">
        <button type="button" onClick=${onClose}>Cancel</button>
        <button type="button" class="danger" disabled=${isBusy} onClick=${confirm}>${action}</button>
      </div>
    <//>
  `;
}

export function Heading({ children }) {
  return html`<h1 id="title" tabindex="-1">${children}</h1>`;
}

// The state of a stream, e.g. live.
const STATES = {
  connecting: ["", "connecting"],
  live: ["good", "live"],
  waiting: ["warn", "reconnecting"],
  ended: ["", "over"],
  refused: ["bad", "not available"],
};
export function StreamState({ state }) {
  const [kind, text] = STATES[state];
  return html`<span class=${`pill ${kind}`} role="status">${text}</span>`;
}

// A figure with its unit, a line below, and the values so far as a line.
export function Stat({ name, value, detail, kind = "", values = [] }) {
  return html`
    <div class=${`stat ${kind}`}>
      <dt>${name}</dt>
      <dd>
        <strong>${value}</strong>
        <${Spark} values=${values} />
        <span class="faint">${detail}</span>
      </dd>
    </div>
  `;
}

function Spark({ values }) {
  if (values.length < 2) return null;
  const [width, height] = [96, 24];
  const most = Math.max(...values);
  const least = Math.min(...values);
  const points = values
    .map((value, i) => {
      const share = most === least ? 0.5 : (value - least) / (most - least);
      return `${((i * width) / (values.length - 1)).toFixed(1)},${(height - 2 - share * (height - 4)).toFixed(1)}`;
    })
    .join(" ");
  return html`
    <svg class="spark" viewBox="0 0 96 24" preserveAspectRatio="none" aria-hidden="true">
      <polyline points=${points} fill="none" stroke="currentColor" stroke-width="1.5" vector-effect="non-scaling-stroke" />
    </svg>
  `;
}
