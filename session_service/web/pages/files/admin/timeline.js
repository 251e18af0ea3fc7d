// The timeline of a session: its messages and its events in one order.

import { clock, duration } from "./format.js";

// Describes an event in a few words, e.g. "until 16:30:00, for the third time".
export function describe(event) {
  const data = event.data ?? {};
  switch (event.type) {
    case "session.created":
      return `expires at ${clock(data.expiresAt)}`;
    case "session.renewed":
      return `until ${clock(data.expiresAt)}; ${data.renewalCount} renewals so far`;
    case "session.updated":
      return `${data.changed}; expires at ${clock(data.expiresAt)}`;
    case "session.expiring":
      return `${duration(60 * data.minutesRemaining)} left`;
    case "session.expired":
      return `at ${clock(data.expiredAt)}`;
    case "session.ended":
      return [data.reason && `reason: ${data.reason}`, data.by && `by: ${data.by}`].filter(Boolean).join(", ");
    case "session.message":
      return `by the ${data.isAgent ? "agent" : "user"}${data.content ? `: ${data.content}` : ""}`;
    default:
      return "";
  }
}

export const emptyTimeline = { entries: new Map(), order: [] };

// Returns a timeline with more entries; one with the same key is replaced, unless it is a message,
// which has more than its event.
export function withEntries(timeline, added) {
  const entries = new Map(timeline.entries);
  for (const entry of added) {
    const old = entries.get(entry.key);
    if (old?.message && !entry.message) continue;
    entries.set(entry.key, entry);
  }
  const order = [...entries.values()].sort((a, b) => a.at - b.at || a.rank.localeCompare(b.rank));
  return { entries, order };
}

export function ofMessage(message) {
  const at = Date.parse(message.createdAt);
  return { key: `message ${message.id}`, at, rank: `1 ${message.createdAt}`, time: message.createdAt, message };
}

// Of an event `session.message` the entry stands for its message until that is read.
export function ofEvent(event) {
  const isMessage = event.type === "session.message";
  const key = isMessage ? `message ${event.data?.messageId}` : `event ${event.id}`;
  return { key, at: Date.parse(event.time), rank: isMessage ? `1 ${event.time}` : `2 ${event.id}`, time: event.time, event };
}
