// Webhook endpoints, and the deliveries that failed for good.

import { get, send } from "./api.js";
import { clock, number, plain } from "./format.js";
import { html, useState } from "./htm-preact.js";
import { Confirm, ErrorNote, Heading, say, usePoll } from "./parts.js";

const LIMIT = 25;
const STATUS = { active: "good", gone: "warn", unreadable: "bad" };

export function Webhooks() {
  const { value, error, again } = usePoll((signal) => get("webhooks", {}, signal), 10, []);
  return html`
    <${Heading}>Webhooks<//>
    <${ErrorNote} error=${error} retry=${again} />
    ${!value && !error && html`<p class="faint">Loading …</p>`}
    ${value?.webhooks.length === 0 && html`<p class="empty">No endpoint is registered.</p>`}
    ${value?.webhooks.length > 0 &&
    html`<table class="cards">
      <caption class="hidden">Webhook endpoints</caption>
      <thead>
        <tr>
          <th scope="col">Endpoint</th>
          <th scope="col">Status</th>
          <th scope="col">Events</th>
          <th scope="col">Waiting</th>
          <th scope="col">Dead letters</th>
          <th scope="col">Lost</th>
        </tr>
      </thead>
      <tbody>
        ${value.webhooks.map(
          (webhook) => html`<tr key=${webhook.webhookId}>
            <th scope="row" data-label="Endpoint">
              <a class="data long" href=${`#/webhooks/${encodeURIComponent(webhook.webhookId)}`}>${String(webhook.url)}</a>
            </th>
            <td data-label="Status"><${Status} webhook=${webhook} /></td>
            <td data-label="Events" class="data">${typesOf(webhook)}</td>
            <td data-label="Waiting">${number(webhook.queued)}</td>
            <td data-label="Dead letters">
              ${webhook.dead ? html`<span class="pill warn">${number(webhook.dead)}</span>` : "0"}
            </td>
            <td data-label="Lost">${number(webhook.dropped)}</td>
          </tr>`,
        )}
      </tbody>
    </table>`}
  `;
}

function Status({ webhook }) {
  return html`<span class=${`pill ${STATUS[webhook.status] ?? ""}`}>${String(webhook.status)}</span>`;
}

const typesOf = (webhook) => webhook.types?.map((type) => type.replace("session.", "")).join(", ") ?? "all";

export function WebhookView({ id }) {
  const path = `webhooks/${encodeURIComponent(id)}`;
  const [offset, setOffset] = useState(0);
  const [asks, setAsks] = useState(null); // the ids to replay; empty for all
  const { value, error, again } = usePoll(
    async (signal) => {
      const [webhook, dead] = await Promise.all([
        get(path, {}, signal),
        get(`${path}/dead`, { limit: LIMIT, offset }, signal),
      ]);
      return { webhook, ...dead };
    },
    10,
    [path, offset],
  );
  const isGone = value?.webhook.status === "gone";
  const replay = async () => {
    const { replayed } = await send("POST", `${path}/dead/replay`, asks.length ? { ids: asks } : {});
    say(`${replayed} ${replayed === 1 ? "delivery is" : "deliveries are"} tried again.`);
    setOffset(0);
    again();
  };
  return html`
    <p><a href="#/webhooks">← All webhooks</a></p>
    <${Heading}>Webhook <code class="long">${id}</code><//>
    <${ErrorNote} error=${error} retry=${again} />
    ${!value && !error && html`<p class="faint">Loading …</p>`}
    ${value &&
    html`
      <${Facts} webhook=${value.webhook} />
      <section aria-labelledby="dead-title">
        <div class="row">
          <h2 id="dead-title">Dead letters</h2>
          <span class="faint">${number(value.total)}</span>
          ${(value.total > 0 || isGone) &&
          html`<button type="button" onClick=${() => setAsks([])}>${value.total ? "Replay all …" : "Enable again …"}</button>`}
        </div>
        ${value.total === 0 && html`<p class="empty">No delivery has failed for good.</p>`}
        <ul class="letters">
          ${value.deadLetters.map((letter) => html`<${Letter} key=${letter.id} letter=${letter} replay=${() => setAsks([letter.id])} />`)}
        </ul>
        ${value.total > LIMIT &&
        html`<div class="actions">
          <button type="button" disabled=${!offset} onClick=${() => setOffset(offset - LIMIT)}>Previous page</button>
          <span class="faint">from ${offset + 1}</span>
          <button type="button" disabled=${offset + LIMIT >= value.total} onClick=${() => setOffset(offset + LIMIT)}>Next page</button>
        </div>`}
      </section>
      ${asks &&
      html`<${Confirm}
        title=${question(asks, value.total)}
        action=${value.total ? "Replay" : "Enable"}
        act=${replay}
        onClose=${() => setAsks(null)}
      >
        <p>
          The endpoint gets ${value.total ? "the events again" : "the events that wait"}:${" "}
          <span class="data long">${String(value.webhook.url)}</span>
        </p>
      <//>`}
    `}
  `;
}

function question(ids, total) {
  if (ids.length) return "Replay this delivery?";
  return total ? `Replay all ${number(total)} deliveries?` : "Enable this endpoint again?";
}

function Facts({ webhook }) {
  return html`
    <dl class="facts">
      <dt>URL</dt>
      <dd class="data long">${String(webhook.url)}</dd>
      <dt>Status</dt>
      <dd>
        <${Status} webhook=${webhook} />
        ${webhook.status === "gone" && " It answered 410; a replay enables it again."}
      </dd>
      <dt>Events</dt>
      <dd class="data">${typesOf(webhook)}</dd>
      <dt>User</dt>
      <dd><code class="long">${webhook.userId ?? "any"}</code></dd>
      <dt>Agent</dt>
      <dd><code class="long">${webhook.agentId ?? webhook.agents?.join(", ") ?? "any"}</code></dd>
      <dt>Deliveries</dt>
      <dd>${number(webhook.queued)} waiting, ${number(webhook.dropped)} lost because a list was full</dd>
      <dt>Registered</dt>
      <dd>${clock(webhook.createdAt)}${webhook.fromSettings ? ", in the settings" : ""}</dd>
    </dl>
  `;
}

function Letter({ letter, replay }) {
  const type = letter.event ? String(letter.event.type) : "an event that cannot be read";
  return html`<li>
    <div class="row">
      <strong class="data">${type}</strong>
      <span class="pill bad data">${String(letter.lastFailure)}</span>
      <span class="faint">${number(letter.attempts)} attempts, given up at ${clock(letter.deadSince)}</span>
      <button type="button" aria-label=${`Replay ${type} ${letter.id}`} onClick=${replay}>Replay …</button>
    </div>
    <details><summary>Event <code class="long">${letter.id}</code></summary><pre class="data">${plain(letter.event, 2)}</pre></details>
  </li>`;
}
