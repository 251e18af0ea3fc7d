// One session: its state, its timeline as it grows, and what can be done with it.

import { get, send } from "./api.js";
import { clock, duration, isEmpty, plain, remaining } from "./format.js";
import { html, useEffect, useRef, useState } from "./htm-preact.js";
import { Confirm, ErrorNote, Heading, say, StreamState, usePoll, useSeconds } from "./parts.js";
import { total } from "./prometheus.js";
import { follow } from "./stream.js";
import { describe, emptyTimeline, ofEvent, ofMessage, withEntries } from "./timeline.js";

const PAGE = 50;
const LAST = "ff-18446744073709551615"; // of the positions in a millisecond
const RETENTION = 50 * 60; // seconds of earlier events, if the metrics do not tell how many there are
const MARGIN = 10; // seconds, in which the figure may have become too large

export function SessionView({ id, vitals }) {
  const path = `sessions/${encodeURIComponent(id)}`;
  const [isOver, setOver] = useState(false);
  const { value: session, error, again } = usePoll(
    async (signal) => ({ ...(await get(path, {}, signal)), read: performance.now() }),
    15,
    [path],
  );
  const last = useRef(null); // the session as it was before it was over
  if (session) last.current = session;
  const shown = session ?? last.current;
  const hasEnded = isOver || (shown && (error?.status === 404 || error?.status === 410));
  const changed = (over) => (over ? setOver(true) : again());
  return html`
    <p><a href="#/sessions">← All sessions</a></p>
    <${Heading}>Session <code class="long">${id}</code><//>
    ${!hasEnded && html`<${ErrorNote} error=${error} retry=${again} />`}
    ${!shown && !error && html`<p class="faint">Loading …</p>`}
    ${hasEnded && html`<p class="note" role="status">This session is over. Its timeline stays here until you leave the page.</p>`}
    ${shown &&
    html`<div class="beside">
      <div>
        <${Facts} session=${shown} isOver=${hasEnded} />
        ${!hasEnded && html`<${Actions} session=${shown} path=${path} changed=${changed} />`}
      </div>
      <${Timeline} session=${shown} path=${path} vitals=${vitals} changed=${changed} isOver=${hasEnded} />
    </div>`}
  `;
}

function Facts({ session, isOver }) {
  useSeconds();
  const left = session.timeRemaining - (performance.now() - session.read);
  const { timeoutMinutes, autoRenew, maxDurationMinutes } = session.timeoutConfig;
  return html`
    <dl class="facts">
      <dt>User</dt>
      <dd><a href=${`#/sessions?user=${encodeURIComponent(session.userId)}`}><code class="long">${session.userId}</code></a></dd>
      <dt>Agent</dt>
      <dd><a href=${`#/sessions?agent=${encodeURIComponent(session.agentId)}`}><code class="long">${session.agentId}</code></a></dd>
      <dt>Time left</dt>
      <dd>
        ${isOver
          ? html`<span class="pill">over</span>`
          : html`<span class=${session.isNearExpiration ? "pill warn" : "pill good"}>${remaining(left)}</span> until ${clock(session.expiresAt)}`}
      </dd>
      <dt>Timeout</dt>
      <dd>
        ${duration(timeoutMinutes * 60)} without activity, ${duration(maxDurationMinutes * 60)} in all;
        ${autoRenew ? " renewed by activity" : " not renewed by activity"}
      </dd>
      <dt>Renewals</dt>
      <dd>${session.renewalCount}</dd>
      <dt>Created</dt>
      <dd>${clock(session.createdAt)}; last activity ${clock(session.lastActivity)}</dd>
      <dt>Metadata</dt>
      <dd>${isEmpty(session.metadata) ? "none" : html`<pre class="data">${plain(session.metadata, 2)}</pre>`}</dd>
    </dl>
  `;
}

function Actions({ session, path, changed }) {
  const [error, setError] = useState(null);
  const [asks, setAsks] = useState(false);
  const renew = async () => {
    setError(null);
    try {
      await send("POST", `${path}/renew`);
      say("The session was renewed.");
      changed(false);
    } catch (failure) {
      setError(failure);
    }
  };
  const end = async () => {
    await send("DELETE", path);
    say("The session was ended.");
    changed(true);
  };
  return html`
    <div class="actions">
      <button type="button" onClick=${renew}>Renew</button>
      <button type="button" class="danger" onClick=${() => setAsks(true)}>End …</button>
    </div>
    <${ErrorNote} error=${error} />
    ${asks &&
    html`<${Confirm} title="End this session?" action="End the session" act=${end} onClose=${() => setAsks(false)}>
      <p>The session <code class="long">${session.sessionId}</code> and its conversation are deleted. This cannot be undone.</p>
    <//>`}
  `;
}

// Follows the events of a session, and reads its messages: those that are there, and each new one.
function useTimeline({ session, path, vitals, changed }) {
  const [timeline, setTimeline] = useState(emptyTimeline);
  const [state, setState] = useState("connecting");
  const [errors, setErrors] = useState({});
  const [earlier, setEarlier] = useState(null); // the time before which there are more messages
  const [hasGap, setGap] = useState(false);
  const add = (entries) => setTimeline((old) => withEntries(old, entries));
  const read = async (query, signal) => {
    const page = await get(`${path}/messages`, { limit: PAGE, ...query }, signal);
    add(page.messages.map(ofMessage));
    return page;
  };
  useEffect(() => {
    const stop = new AbortController();
    const { signal } = stop;
    let newest = 0; // the time of the newest message that was read
    let reading = null;
    const fail = (error) => signal.aborted || setErrors((old) => ({ ...old, messages: error }));
    const readNewest = async () => {
      const page = await read({}, signal);
      newest = page.cursors?.after ?? 0;
      if (page.hasMore) setEarlier(page.cursors.before);
    };
    // One read at a time; `after` is exclusive, and a millisecond may have several messages.
    const readOn = async () => {
      for (let more = true; more; ) {
        const page = await read({ after: Math.max(newest - 1, 0) }, signal);
        newest = Math.max(newest, page.cursors?.after ?? 0);
        more = page.hasMore;
      }
    };
    const readNew = () => {
      reading = (reading ?? Promise.resolve()).then(readOn).catch(fail);
    };
    reading = readNewest().catch(fail);
    const now = Date.parse(session.expiresAt) - session.timeRemaining;
    const kept = total(vitals.metrics, "session_service_outbox_retained_seconds");
    const back = kept > MARGIN * 6 ? Math.min(RETENTION, kept - MARGIN) : RETENTION; // a new store has all
    const from = Math.max(Date.parse(session.createdAt), now - 1000 * back);
    follow(`${path}/events`, {
      after: `${Math.floor(from) - 1}-${LAST}`,
      signal,
      onState: (next, error) => {
        setState(next);
        setErrors((old) => ({ ...old, events: error }));
      },
      onEvent: (name, event) => {
        if (name === "reset") return setGap(true);
        if (!name.startsWith("session.")) return undefined;
        add([ofEvent(event)]);
        if (name === "session.message") readNew();
        return changed(name === "session.ended" || name === "session.expired");
      },
    });
    return () => stop.abort();
  }, [path]);
  const readEarlier = async () => {
    try {
      const page = await read({ before: earlier });
      setEarlier(page.hasMore ? page.cursors.before : null);
    } catch (error) {
      setErrors((old) => ({ ...old, messages: error }));
    }
  };
  return { entries: timeline.order, state, errors, hasGap, readEarlier: earlier && readEarlier };
}

function Timeline({ session, path, vitals, changed, isOver }) {
  const { entries, state, errors, hasGap, readEarlier } = useTimeline({ session, path, vitals, changed });
  const box = useRef(null);
  const follows = useRef(true); // until a person scrolls up
  useEffect(() => {
    if (follows.current) box.current.scrollTop = box.current.scrollHeight;
  }, [entries]);
  const watch = ({ currentTarget: { scrollHeight, scrollTop, clientHeight } }) => {
    follows.current = scrollHeight - scrollTop - clientHeight < 40;
  };
  return html`
    <section aria-labelledby="timeline-title">
      <div class="row"><h2 id="timeline-title">Timeline</h2><${StreamState} state=${state} /></div>
      <${ErrorNote} error=${errors.messages} />
      <${ErrorNote} error=${errors.events} />
      ${hasGap && html`<p class="faint">Earlier events are no longer kept.</p>`}
      ${readEarlier && html`<button type="button" onClick=${readEarlier}>Earlier messages</button>`}
      <div class="timeline" role="log" aria-labelledby="timeline-title" tabindex="0" ref=${box} onScroll=${watch}>
        ${entries.length === 0 && html`<p class="faint">Nothing has happened yet.</p>`}
        <ol>${entries.map((entry) => html`<${Entry} key=${entry.key} entry=${entry} />`)}</ol>
      </div>
      ${!isOver && html`<${Reply} session=${session} path=${path} />`}
    </section>
  `;
}

function Entry({ entry: { message, event, time } }) {
  const at = html`<time datetime=${time}>${clock(time)}</time>`;
  if (!message) {
    return html`<li class="event">
      ${at} <strong>${String(event.type).replace("session.", "")}</strong> <span class="data">${describe(event)}</span>
    </li>`;
  }
  return html`<li class=${message.isAgent ? "message agent" : "message user"}>
    <p class="faint"><strong>${message.isAgent ? "Agent" : "User"}</strong> ${at}</p>
    <p class="content data">${plain(message.content)}</p>
    ${!isEmpty(message.metadata) && html`<${More} name="Metadata" value=${message.metadata} />`}
    ${!isEmpty(message.attachments) && html`<${More} name="Attachments" value=${message.attachments} />`}
  </li>`;
}

function More({ name, value }) {
  return html`<details><summary>${name}</summary><pre class="data">${plain(value, 2)}</pre></details>`;
}

function Reply({ session, path }) {
  const [text, setText] = useState("");
  const [error, setError] = useState(null);
  const [isBusy, setBusy] = useState(false);
  const submit = async (event) => {
    event.preventDefault();
    if (!text.trim() || isBusy) return;
    setBusy(true);
    setError(null);
    try {
      await send("POST", `${path}/messages`, { content: text, authorId: session.agentId });
      setText("");
      say("The message was sent.");
    } catch (failure) {
      setError(failure);
    }
    setBusy(false);
  };
  const onKey = (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) submit(event);
  };
  return html`
    <form class="reply" onSubmit=${submit}>
      <label for="reply">Send as the agent</label>
      <textarea id="reply" rows="3" value=${text} aria-describedby="reply-hint" onInput=${(event) => setText(event.currentTarget.value)} onKeyDown=${onKey}></textarea>
      <div class="actions">
        <button type="submit" class="primary" disabled=${isBusy || !text.trim()}>Send</button>
        <span id="reply-hint" class="faint">or Ctrl+Enter; activity may renew the session</span>
      </div>
      <${ErrorNote} error=${error} />
    </form>
  `;
}
