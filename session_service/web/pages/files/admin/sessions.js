// The list of live sessions, by user and agent, in pages.

import { get } from "./api.js";
import { clock, isEmpty, number, plain, remaining, shortId } from "./format.js";
import { html, useEffect, useState } from "./htm-preact.js";
import { ErrorNote, Heading, usePoll, useSeconds } from "./parts.js";

const LIMIT = 25;

const target = (user, agent) => {
  const query = new URLSearchParams(Object.entries({ user, agent }).filter(([, value]) => value));
  return `#/sessions${query.size ? `?${query}` : ""}`;
};

export function Sessions({ query: { user = "", agent = "" } }) {
  const [cursors, setCursors] = useState([]); // of the pages up to the current one
  useEffect(() => setCursors([]), [user, agent]);
  const cursor = cursors.at(-1);
  const { value, error, again } = usePoll(
    async (signal) => {
      const list = await get("sessions", { limit: LIMIT, cursor, userId: user, agentId: agent }, signal);
      return { ...list, read: performance.now() };
    },
    10,
    [user, agent, cursor],
  );
  return html`
    <${Heading}>Sessions<//>
    <${Filter} user=${user} agent=${agent} />
    <${ErrorNote} error=${error} retry=${again} />
    ${value
      ? html`
          <p class="faint" role="status">
            ${number(value.total)} live${user || agent ? " that match" : ""}; in all ${number(value.stats.activeSessions)} live,${" "}
            ${number(value.stats.expiredSessions)} expired
          </p>
          <${Table} list=${value} user=${user} agent=${agent} />
          <div class="actions">
            <button type="button" disabled=${!cursors.length} onClick=${() => setCursors(cursors.slice(0, -1))}>Previous page</button>
            <span class="faint">Page ${cursors.length + 1}</span>
            <button type="button" disabled=${!value.nextCursor} onClick=${() => setCursors([...cursors, value.nextCursor])}>Next page</button>
          </div>
        `
      : !error && html`<p class="faint">Loading …</p>`}
  `;
}

function Filter({ user, agent }) {
  const [typed, setTyped] = useState({ user, agent });
  useEffect(() => setTyped({ user, agent }), [user, agent]);
  const submit = (event) => {
    event.preventDefault();
    location.hash = target(typed.user.trim(), typed.agent.trim());
  };
  const field = (name, text) => html`
    <div class="field">
      <label for=${`filter-${name}`}>${text}</label>
      <input
        id=${`filter-${name}`}
        value=${typed[name]}
        autocomplete="off"
        spellcheck=${false}
        placeholder="any"
        onInput=${(event) => setTyped({ ...typed, [name]: event.currentTarget.value })}
      />
    </div>
  `;
  return html`
    <form class="filter" role="search" onSubmit=${submit}>
      ${field("user", "User ID")} ${field("agent", "Agent ID")}
      <button type="submit" class="primary">Filter</button>
      <a class="button" href="#/sessions">Show all</a>
    </form>
  `;
}

function Table({ list, user, agent }) {
  useSeconds();
  if (!list.sessions.length) return html`<p class="empty">No live session.</p>`;
  const elapsed = performance.now() - list.read;
  return html`
    <table class="cards">
      <caption class="hidden">Live sessions</caption>
      <thead>
        <tr>
          <th scope="col">Session</th>
          <th scope="col">User</th>
          <th scope="col">Agent</th>
          <th scope="col">Last activity</th>
          <th scope="col">Time left</th>
          <th scope="col">Metadata</th>
        </tr>
      </thead>
      <tbody>
        ${list.sessions.map(
          (session) => html`<tr key=${session.sessionId}>
            <th scope="row" data-label="Session">
              <a href=${`#/sessions/${encodeURIComponent(session.sessionId)}`}><code>${shortId(session.sessionId)}</code></a>
            </th>
            <td data-label="User">
              <a href=${target(session.userId, agent)} aria-label=${`Sessions of the user ${session.userId}`}><code>${shortId(session.userId)}</code></a>
            </td>
            <td data-label="Agent">
              <a href=${target(user, session.agentId)} aria-label=${`Sessions with the agent ${session.agentId}`}><code>${shortId(session.agentId)}</code></a>
            </td>
            <td data-label="Last activity"><time datetime=${session.lastActivity}>${clock(session.lastActivity)}</time></td>
            <td data-label="Time left">
              <span class=${session.isNearExpiration ? "pill warn" : ""}>${remaining(session.timeRemaining - elapsed)}</span>
            </td>
            <td data-label="Metadata" class="clip data">${isEmpty(session.metadata) ? "–" : plain(session.metadata)}</td>
          </tr>`,
        )}
      </tbody>
    </table>
  `;
}
