// Opens a socket with the real client and prints each event as a line of JSON: [event, ...].
// Emits each line of standard input, such as ["join", {"roomId": "<id>"}], and prints the
// acknowledgement as ["ack", ...]. Ends when there is no more input.
//
// node listen.mjs <folder of the client> <URL> <transport>,<transport> <JSON of the option auth>

import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { join } from "node:path";

const [folder, url, transports, auth] = process.argv.slice(2);
const { io } = createRequire(join(folder, "package.json"))("socket.io-client");
const tell = (...what) => console.log(JSON.stringify(what));

const socket = io(url, {
  transports: transports.split(","),
  reconnectionDelay: 50,
  auth: JSON.parse(auth),
});
socket.on("connect", () => tell("connect"));
socket.on("disconnect", (reason) => tell("disconnect", reason));
socket.on("connect_error", (error) => tell("connect_error", error.message, error.data));
socket.io.engine.on("upgrade", ({ name }) => tell("upgrade", name));
socket.onAny(tell);

for await (const line of createInterface({ input: process.stdin })) {
  socket.emit(...JSON.parse(line), (...given) => tell("ack", ...given));
}
socket.disconnect();
