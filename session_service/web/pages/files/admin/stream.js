// Server-sent events by fetch, because an EventSource cannot send a credential as a header.

import { address, request } from "./api.js";

const LEAST_WAIT = 1000;
const LONGEST_WAIT = 30_000;

// Follows a stream until `signal` aborts it, or a session has ended. Calls `onEvent(name, data)` for
// each event, and `onState(state, error)` with live, waiting, ended or refused. It resumes after the
// last event that it has, or begins after the position `after`.
export async function follow(path, { query = {}, after = "", signal, onEvent, onState }) {
  let position = after;
  let wait = LEAST_WAIT;
  while (!signal.aborted) {
    try {
      const headers = { Accept: "text/event-stream" };
      if (position) headers["Last-Event-ID"] = position;
      const response = await request(address(path, query), { signal, headers });
      for await (const block of blocks(response.body)) {
        if (block.retry) wait = Math.min(Math.max(block.retry, LEAST_WAIT), LONGEST_WAIT);
        if (block.id) position = block.id;
        if (!block.data) continue;
        onState("live");
        if (block.event === "position") continue;
        onEvent(block.event, parse(block.data));
        if (block.event === "session.ended" || block.event === "session.expired") {
          if (path !== "events") return onState("ended");
        }
      }
    } catch (error) {
      if (signal.aborted) return undefined;
      // Any status but 200 is final (docs/events.md); a dropped connection is not.
      if (error.status >= 400) return onState("refused", error);
      wait = Math.min(wait * 2, LONGEST_WAIT);
    }
    if (signal.aborted) return undefined;
    onState("waiting");
    await new Promise((resolve) => setTimeout(resolve, wait));
  }
  return undefined;
}

function parse(data) {
  try {
    return JSON.parse(data);
  } catch {
    return {};
  }
}

// Yields the blocks of a stream: objects of their fields, such as {id, event, data}.
export async function* blocks(body) {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let text = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      text += decoder.decode(value, { stream: true });
      const parts = text.split("\n\n");
      text = parts.pop();
      for (const part of parts) yield fields(part);
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

function fields(block) {
  const found = { event: "message", data: "" };
  for (const line of block.split("\n")) {
    const colon = line.indexOf(":");
    if (colon <= 0) continue;
    const value = line.slice(colon + 1).replace(/^ /, "");
    const name = line.slice(0, colon);
    if (name === "data") found.data += found.data ? `\n${value}` : value;
    else found[name] = name === "retry" ? Number(value) : value;
  }
  return found;
}
