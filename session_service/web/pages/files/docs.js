"use strict";

const STREAM_SECONDS = 5;

// Swagger UI is dark if <html> has the class dark-mode.
const darkness = matchMedia("(prefers-color-scheme: dark)");
const followScheme = () => document.documentElement.classList.toggle("dark-mode", darkness.matches);
darkness.addEventListener("change", followScheme);
followScheme();

// Swagger UI shows a response once it has ended, and an event stream does not end. So it gets what
// comes within some seconds of the first event, or until the server closes the stream.
async function fetchStart(url, options) {
  const response = await fetch(url, options);
  if (!response.headers.get("content-type")?.startsWith("text/event-stream")) return response;
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  let text = "";
  let timer;
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    timer ??= setTimeout(() => reader.cancel(), STREAM_SECONDS * 1000);
    text += decoder.decode(part.value, { stream: true });
  }
  clearTimeout(timer);
  const { status, statusText, headers } = response;
  const start = new Response(text, { status, statusText, headers });
  Object.defineProperty(start, "url", { value: response.url });
  return start;
}

async function show() {
  const response = await fetch("openapi.json");
  if (!response.ok) throw new Error(`openapi.json: ${response.status}`);
  const spec = await response.json();
  // A proxy may serve the service below a path.
  spec.servers = [{ url: new URL(".", location.href).href.replace(/\/$/, "") }];
  SwaggerUIBundle({
    spec,
    dom_id: "#docs",
    deepLinking: true,
    defaultModelsExpandDepth: 0,
    displayRequestDuration: true,
    tryItOutEnabled: true,
    validatorUrl: null, // there is one on the internet
    requestInterceptor: (request) => Object.assign(request, { userFetch: fetchStart }),
  });
}

addEventListener("DOMContentLoaded", () => {
  show().catch((error) => {
    document.getElementById("docs").textContent = `The API document cannot be shown: ${error.message}`;
  });
});

// Swagger UI's dialog for credentials opens with the focus on its last field, and has no key to close.
addEventListener("click", (event) => {
  if (!event.target.closest(".authorize, .authorization__btn")) return;
  requestAnimationFrame(() => document.querySelector(".dialog-ux input")?.focus());
});
addEventListener("keydown", (event) => {
  if (event.key === "Escape") document.querySelector(".dialog-ux .close-modal")?.click();
});
