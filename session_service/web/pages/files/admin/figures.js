// Health, and all figures of /metrics.

import { duration, number } from "./format.js";
import { html, useState } from "./htm-preact.js";
import { ErrorNote, Heading } from "./parts.js";
import { histogram, quantile } from "./prometheus.js";

export function Figures({ vitals: { health, healthError, metrics, metricsError, error, again }, home }) {
  return html`
    <${Heading}>Health and figures<//>
    <${ErrorNote} error=${error ?? healthError} retry=${again} />
    <dl class="facts">
      <dt>Version</dt>
      <dd>${home.version}</dd>
      <dt>Store</dt>
      <dd class="data">${home.store}</dd>
      <dt>Access control</dt>
      <dd>${home.accessControl ? "on" : "off"}</dd>
      ${health &&
      html`
        <dt>Health</dt>
        <dd>
          ${health.status}
          ${health.reasons && html`<ul>${health.reasons.map((reason) => html`<li class="data">${String(reason)}</li>`)}</ul>`}
        </dd>
        <dt>Up for</dt>
        <dd>${duration(health.uptime)} (the process that answered)</dd>
        <dt>Sessions</dt>
        <dd>
          ${number(health.activeSessions)} live, ${number(health.expiringSoon)} expire soon${health.invalidSessions
            ? `, ${number(health.invalidSessions)} unreadable`
            : ""}
        </dd>
      `}
    </dl>
    <${ErrorNote} error=${metricsError} />
    ${metrics && html`<${Metrics} metrics=${metrics} />`}
  `;
}

function Metrics({ metrics }) {
  const [text, setText] = useState("");
  const families = [...metrics.values()].filter((family) => family.name.includes(text.trim().toLowerCase()));
  return html`
    <section aria-labelledby="metrics-title">
      <h2 id="metrics-title">Figures of this node</h2>
      <div class="field">
        <label for="metric">Name</label>
        <input id="metric" value=${text} autocomplete="off" spellcheck=${false} onInput=${(event) => setText(event.currentTarget.value)} />
      </div>
      <p class="faint" role="status">${families.length} figures</p>
      <table class="cards">
        <caption class="hidden">Metrics</caption>
        <thead>
          <tr>
            <th scope="col">Name</th>
            <th scope="col">Value</th>
          </tr>
        </thead>
        <tbody>
          ${families.map(
            (family) => html`<tr key=${family.name}>
              <th scope="row" data-label="Name">
                <code class="long">${family.name}</code>
                <span class="faint help">${family.help}</span>
              </th>
              <td data-label="Value"><${Value} family=${family} metrics=${metrics} /></td>
            </tr>`,
          )}
        </tbody>
      </table>
    </section>
  `;
}

function Value({ family, metrics }) {
  if (family.type === "histogram") {
    const all = histogram(metrics, family.name);
    const show = family.name.endsWith("_seconds") ? duration : number;
    if (!all.count) return html`<span>0</span>`;
    return html`<span>${number(all.count)}: half up to ${show(quantile(all, 0.5))}, 99 % up to ${show(quantile(all, 0.99))}</span>`;
  }
  return html`<ul class="plain">
    ${family.samples.map((sample) => {
      const labels = Object.entries(sample.labels).map(([name, value]) => `${name}=${value}`);
      return html`<li>${labels.length > 0 && html`<code>${labels.join(", ")}</code>`} ${number(sample.value)}</li>`;
    })}
  </ul>`;
}
