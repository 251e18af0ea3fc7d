// Follows a stream by a published client and prints each event as a line of JSON.
//
// node follow.mjs <folder of the clients> <eventsource|fetch-event-source> <URL>

import { createRequire } from "node:module";
import { join } from "node:path";

const [folder, client, url] = process.argv.slice(2);
const require = createRequire(join(folder, "package.json"));
const tell = (...what) => console.log(JSON.stringify(what));
const EVENTS = ["session.created", "session.renewed", "session.ended", "position", "reset"];

if (client === "eventsource") {
  const { EventSource } = require("eventsource");
  const source = new EventSource(url);
  source.onopen = () => tell("open");
  source.onerror = () => tell("error", source.readyState === EventSource.CLOSED);
  for (const name of EVENTS) {
    source.addEventListener(name, (event) => tell(name, JSON.parse(event.data)));
  }
} else {
  const { fetchEventSource } = require("@microsoft/fetch-event-source");
  globalThis.window = globalThis; // it is made for browsers
  globalThis.document = { addEventListener() {}, removeEventListener() {} };
  await fetchEventSource(url, {
    openWhenHidden: true,
    onmessage: ({ event, data }) => tell(event, JSON.parse(data)),
    onerror: (error) => {
      tell("failed", String(error));
      throw error;
    },
  });
  tell("end");
}
