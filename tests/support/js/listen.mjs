// Opens a socket with the real client and prints each event as a line of JSON: [event, ...].
// Emits each line of standard input, such as ["join", {"roomId": "<id>"}], and prints the
// acknowledgement as ["ack", ...]. Ends when there is no more input.
//
// node listen.mjs <folder of the client> <URL> <transport>,<transport>

import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { join } from "node:path";

const [folder, url, transports] = process.argv.slice(2);
const { io } = createRequire(join(folder, "package.json"))("socket.io-client");
const tell = (...what) => console.log(JSON.stringify(what));

const socket = io(url, { transports: transports.split(","), reconnectionDelay: 50 });
socket.on("connect", () => tell("connect"));
socket.on("disconnect", (reason) => tell("disconnect", reason));
socket.on("connect_error", (error) => tell("connect_error", error.message));
socket.io.engine.on("upgrade", ({ name }) => tell("upgrade", name));
socket.onAny(tell);

for await (const line of createInterface({ input: process.stdin })) {
  socket.emit(...JSON.parse(line), (...given) => tell("ack", ...given));
}
socket.disconnect();
