// The service's API. The credential that a person enters is in this module's memory only: it is sent
// as a header, and is never in a URL, in storage or in the page.

const ROOT = new URL(".", location.href);
const BASE = new URL("api/messaging/", ROOT);

let credential = null;
let refused = () => {};

export class ApiError extends Error {
  constructor(status, code, message, details, requestId) {
    super(message);
    Object.assign(this, { status, code, details, requestId });
  }
}

// Uses a credential from now on, or none; `whenRefused` is called if the service refuses it (401).
export function signIn(text, whenRefused = () => {}) {
  credential = text;
  refused = whenRefused;
}

// Returns the URL of a path such as `sessions/3f1c…`; members of `query` that are empty are left out.
export function address(path, query = {}) {
  const url = new URL(path, BASE);
  for (const [name, value] of Object.entries(query)) {
    if (value !== null && value !== undefined && value !== "") url.searchParams.set(name, value);
  }
  return url;
}

// Sends a request with the credential; raises ApiError unless the response is a success.
export async function request(url, options = {}) {
  const mine = credential;
  const headers = { Accept: "application/json", ...options.headers };
  if (mine) headers.Authorization = `Bearer ${mine}`;
  let response;
  try {
    response = await fetch(url, { cache: "no-store", credentials: "omit", ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "UNREACHABLE", "The service cannot be reached", "", "");
  }
  if (response.ok) return response;
  const error = await read(response);
  if (error.status === 401 && mine === credential) refused(error);
  throw error;
}

async function read(response) {
  const body = await response.json().catch(() => ({}));
  const { code, message, details } = body?.error ?? {};
  const text = (value) => (typeof value === "string" ? value : "");
  return new ApiError(
    response.status,
    text(code) || `HTTP ${response.status}`,
    text(message) || "The request failed",
    text(details),
    response.headers.get("X-Request-ID") ?? "",
  );
}

export async function get(path, query, signal) {
  return (await request(address(path, query), { signal })).json();
}

// Sends a change, with a key of its own, and `body` as JSON if there is one.
export async function send(method, path, body) {
  const headers = { "Idempotency-Key": randomKey() };
  const options = { method, headers };
  if (body !== undefined) {
    headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  return (await request(address(path), options)).json();
}

// crypto.randomUUID is for secure contexts, and the page may be served by http:// in a network.
function randomKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) =>
    byte.toString(16).padStart(2, "0"),
  ).join("");
}

export async function readMetrics(signal) {
  const response = await request(new URL("metrics", ROOT), { signal, headers: { Accept: "text/plain" } });
  return response.text();
}

// The first screen as JSON: the name, the version, and whether access control is on.
export async function readHome() {
  return (await request(ROOT)).json();
}
