// The live page: its frame, its views by the fragment of the URL, and the sign-in.

import { get, readHome, readMetrics, request, address, signIn } from "./api.js";
import { Figures } from "./figures.js";
import { html, render, useEffect, useRef, useState } from "./htm-preact.js";
import { Overview } from "./overview.js";
import { Announcements, ErrorNote, usePoll } from "./parts.js";
import { parseMetrics } from "./prometheus.js";
import { SessionView } from "./session.js";
import { Sessions } from "./sessions.js";
import { WebhookView, Webhooks } from "./webhooks.js";

const SAMPLES = 60; // of 5 seconds: five minutes
const VIEWS = [
  ["overview", "Overview"],
  ["sessions", "Sessions"],
  ["webhooks", "Webhooks"],
  ["figures", "Figures"],
];

// Reads e.g. `#/sessions?user=…` as {name: "sessions", id: "", query: {user: "…"}}.
function readRoute() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [name = "", id = ""] = path.split("/");
  let decoded = "";
  try {
    decoded = decodeURIComponent(id);
  } catch {
    // No id has such a text.
  }
  return {
    name: VIEWS.some(([view]) => view === name) ? name : "overview",
    id: decoded,
    query: Object.fromEntries(new URLSearchParams(query)),
  };
}

function useRoute() {
  const [route, setRoute] = useState(readRoute);
  useEffect(() => {
    const follow = () => setRoute(readRoute());
    addEventListener("hashchange", follow);
    return () => removeEventListener("hashchange", follow);
  }, []);
  return route;
}

// Health and metrics, every five seconds, with the last five minutes of them.
function useVitals() {
  const samples = useRef([]);
  const { value, error, again } = usePoll(
    async (signal) => {
      const [health, metrics] = await Promise.allSettled([
        get("sessions/health", {}, signal),
        readMetrics(signal).then(parseMetrics),
      ]);
      for (const { reason } of [health, metrics]) {
        if (reason?.name === "AbortError" || reason?.status === 401) throw reason;
      }
      const vitals = {
        at: performance.now(),
        health: health.value,
        metrics: metrics.value,
        healthError: health.reason,
        metricsError: metrics.reason,
      };
      samples.current = [...samples.current, vitals].slice(-SAMPLES);
      return vitals;
    },
    5,
    [],
  );
  return { ...value, error, again, samples: samples.current };
}

function App() {
  const [home, setHome] = useState(null);
  const [error, setError] = useState(null);
  const [isIn, setIn] = useState(false);
  const [refusal, setRefusal] = useState(null);
  const load = () => {
    setError(null);
    readHome().then(setHome, setError);
  };
  useEffect(load, []);

  const leave = (reason) => {
    signIn(null);
    setRefusal(reason ?? null);
    setIn(false);
  };
  const enter = async (text) => {
    signIn(text, leave);
    try {
      await request(address("sessions/health"));
    } catch (failure) {
      if (failure.status === 401 || !failure.status) throw failure; // others: it may do something else
    }
    setRefusal(null);
    setIn(true);
  };

  if (!home) {
    return html`<main class="sign-in">
      ${error ? html`<${ErrorNote} error=${error} retry=${load} />` : html`<p class="faint">Loading …</p>`}
    </main>`;
  }
  if (home.accessControl && !isIn) return html`<${SignIn} enter=${enter} refusal=${refusal} />`;
  return html`<${Frame} home=${home} leave=${home.accessControl ? () => leave() : null} />`;
}

function SignIn({ enter, refusal }) {
  const [error, setError] = useState(null);
  const [isBusy, setBusy] = useState(false);
  const field = useRef(null);
  useEffect(() => field.current.focus(), []);
  const submit = async (event) => {
    event.preventDefault();
    const text = field.current.value.trim();
    if (!text) return;
    setBusy(true);
    try {
      await enter(text);
    } catch (failure) {
      setError(failure);
      setBusy(false);
      field.current.select();
    }
  };
  return html`
    <main class="sign-in">
      <img src="favicon.svg" alt="" />
      <h1>Live sessions</h1>
      <p>
        Access control is on: enter an API key or a token. It stays in the memory of this page, and is forgotten when you
        close or reload it. You see what it permits.
      </p>
      <form onSubmit=${submit}>
        <label for="credential">API key or token</label>
        <input id="credential" ref=${field} type="password" autocomplete="off" spellcheck=${false} required />
        <button type="submit" class="primary" disabled=${isBusy}>Continue</button>
      </form>
      <${ErrorNote} error=${error ?? refusal} />
    </main>
  `;
}

function Frame({ home, leave }) {
  const route = useRoute();
  const vitals = useVitals();
  const isFirst = useRef(true);
  const place = `${route.name}/${route.id}`;
  useEffect(() => {
    const title = document.getElementById("title");
    document.title = `${title?.textContent ?? "Live"} · session-service`;
    if (!isFirst.current) title?.focus();
    isFirst.current = false;
  }, [place]);
  const skip = (event) => {
    event.preventDefault();
    document.getElementById("title")?.focus();
  };
  const status = vitals.health?.status ?? (vitals.healthError?.status === 503 ? "unhealthy" : "");
  const kind = { healthy: "good", degraded: "warn", unhealthy: "bad" }[status];
  return html`
    <a class="skip" href="#title" onClick=${skip}>Skip to the content</a>
    <header class="bar">
      <a class="brand" href="./"><img src="favicon.svg" alt="" /> ${home.name}</a>
      <nav aria-label="Views">
        ${VIEWS.map(
          ([name, text]) =>
            html`<a key=${name} href=${`#/${name}`} aria-current=${route.name === name ? "page" : null}>${text}</a>`,
        )}
      </nav>
      <div class="bar-end">
        ${status && html`<span class=${`pill ${kind}`}>${status}</span>`}
        ${leave && html`<button type="button" onClick=${leave}>Forget the key</button>`}
      </div>
    </header>
    <main class="view" key=${place}><${View} route=${route} vitals=${vitals} home=${home} /></main>
    <${Announcements} />
  `;
}

function View({ route: { name, id, query }, vitals, home }) {
  if (name === "sessions") {
    return id ? html`<${SessionView} id=${id} vitals=${vitals} />` : html`<${Sessions} query=${query} />`;
  }
  if (name === "webhooks") return id ? html`<${WebhookView} id=${id} />` : html`<${Webhooks} />`;
  if (name === "figures") return html`<${Figures} vitals=${vitals} home=${home} />`;
  return html`<${Overview} vitals=${vitals} />`;
}

render(html`<${App} />`, document.getElementById("app"));
