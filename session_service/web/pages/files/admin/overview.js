// The overview: how the service is, and the latest events.

import { clock, duration, number, shortId } from "./format.js";
import { html, useEffect, useRef, useState } from "./htm-preact.js";
import { ErrorNote, Heading, Stat, StreamState } from "./parts.js";
import { histogram, quantile, since, total } from "./prometheus.js";
import { follow } from "./stream.js";
import { describe } from "./timeline.js";

const MOST_EVENTS = 40;
const REDRAW = 250; // ms

export function Overview({ vitals }) {
  const { health, healthError, metricsError, error } = vitals;
  return html`
    <${Heading}>Overview<//>
    <${ErrorNote} error=${error ?? healthError} retry=${vitals.again} />
    ${health?.reasons?.length > 0 &&
    html`<div class="note warn" role="alert">
      <p><strong>The service is degraded.</strong></p>
      <ul>
        ${health.reasons.map((reason) => html`<li class="data">${String(reason)}</li>`)}
      </ul>
    </div>`}
    <${Stats} ...${vitals} />
    ${metricsError &&
    html`<p class="faint">
      Figures are missing: ${metricsError.message} (${metricsError.code}). They need the scope <code>metrics:read</code>, or this
      machine without a proxy.
    </p>`}
    <${LatestEvents} />
  `;
}

function Stats({ health, metrics, samples }) {
  const first = samples.find((sample) => sample.metrics)?.metrics;
  const recent = (name) => {
    const now = histogram(metrics, name);
    const change = first === metrics ? now : since(now, histogram(first, name));
    return change.count ? [change, "in the last minutes"] : [now, "since the start"];
  };
  const timing = (name) => {
    const [found, when] = recent(name);
    const value = quantile(found, 0.99);
    const half = quantile(found, 0.5);
    return {
      value: duration(value),
      detail: value === null ? "nothing yet" : `99 % below; half below ${duration(half)}, ${when}`,
      isSlow: (limit) => value !== null && value > limit,
    };
  };
  const lateness = timing("session_service_sweep_lateness_seconds");
  const overdue = total(metrics, "session_service_sweep_overdue_seconds");
  const lag = timing("session_service_event_delivery_seconds");
  const store = timing("db_client_operation_duration_seconds");
  const dead = total(metrics, "session_service_webhook_dead");
  const rates = requestRates(samples);
  const series = (read) => samples.map(read).filter((value) => typeof value === "number");
  return html`
    <dl class="stats">
      <${Stat}
        name="Live sessions"
        value=${number(health?.activeSessions)}
        values=${series((sample) => sample.health?.activeSessions)}
        detail=${health ? `up for ${duration(health.uptime)}` : ""}
      />
      <${Stat}
        name="Expiring soon"
        value=${number(health?.expiringSoon)}
        values=${series((sample) => sample.health?.expiringSoon)}
        detail="past their warning threshold"
      />
      <${Stat}
        name="Sweep lateness"
        kind=${overdue > 2 || lateness.isSlow(2) ? "warn" : ""}
        value=${lateness.value}
        detail=${overdue ? `a deadline waits for ${duration(overdue)}` : lateness.detail}
      />
      <${Stat} name="Event lag" kind=${lag.isSlow(1) ? "warn" : ""} value=${lag.value} detail=${lag.detail} />
      <${Stat}
        name="Store round trip"
        kind=${store.isSlow(0.1) || total(metrics, "session_service_store_up") === 0 ? "warn" : ""}
        value=${store.value}
        detail=${store.detail}
      />
      <${Stat}
        name="Requests"
        value=${rates.length ? `${number(rates.at(-1))}/s` : "–"}
        values=${rates}
        detail="of this node"
      />
      <${Stat}
        name="Webhook deliveries"
        kind=${dead ? "warn" : ""}
        value=${number(total(metrics, "session_service_webhook_queued"))}
        detail=${dead ? `waiting; ${number(dead)} dead letters` : "waiting; no dead letters"}
      />
      <${Stat}
        name="Events kept"
        value=${number(total(metrics, "session_service_outbox_events"))}
        detail=${`going back ${duration(total(metrics, "session_service_outbox_retained_seconds"))}`}
      />
    </dl>
  `;
}

function requestRates(samples) {
  const counted = samples
    .filter((sample) => sample.metrics)
    .map((sample) => [sample.at / 1000, histogram(sample.metrics, "http_server_request_duration_seconds").count]);
  return counted
    .slice(1)
    .map(([at, count], i) => Math.max(0, count - counted[i][1]) / Math.max(at - counted[i][0], 0.001));
}

function LatestEvents() {
  const [events, setEvents] = useState([]);
  const [state, setState] = useState("connecting");
  const [error, setError] = useState(null);
  const [isPaused, setPaused] = useState(false);
  const latest = useRef([]);
  useEffect(() => {
    if (isPaused) return undefined;
    const stop = new AbortController();
    let timer;
    setState("connecting");
    follow("events", {
      signal: stop.signal,
      onState: (now, failure) => {
        setState(now);
        setError(failure ?? null);
      },
      onEvent: (name, event) => {
        if (!name.startsWith("session.")) return;
        latest.current = [event, ...latest.current].slice(0, MOST_EVENTS);
        timer ??= setTimeout(() => {
          timer = undefined;
          setEvents(latest.current);
        }, REDRAW);
      },
    });
    return () => {
      clearTimeout(timer);
      stop.abort();
    };
  }, [isPaused]);
  return html`
    <section aria-labelledby="events-title">
      <div class="row">
        <h2 id="events-title">Latest events</h2>
        ${!isPaused && html`<${StreamState} state=${state} />`}
        <button type="button" aria-pressed=${String(isPaused)} onClick=${() => setPaused(!isPaused)}>Pause</button>
      </div>
      <${ErrorNote} error=${error} />
      ${events.length === 0 && !error && html`<p class="faint">Events appear here as they happen.</p>`}
      <ul class="feed">
        ${events.map((event) => {
          const { sessionId, agentId, userId } = event.data ?? {};
          return html`<li key=${event.id}>
            <time datetime=${String(event.time)}>${clock(event.time)}</time>
            <span class="what"><strong>${String(event.type).replace("session.", "")}</strong> <span class="data">${describe(event)}</span></span>
            <span class="who faint">
              session <a href=${`#/sessions/${encodeURIComponent(sessionId)}`}><code>${shortId(sessionId)}</code></a>,
              user <code>${shortId(userId)}</code>, agent <code>${shortId(agentId)}</code>
            </span>
          </li>`;
        })}
      </ul>
    </section>
  `;
}
