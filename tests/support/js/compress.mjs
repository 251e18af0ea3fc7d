// A proxy that compresses every compressible response, as development servers do; prints its port.
//
// node compress.mjs <folder of the packages> <port of the service>

import { request } from "node:http";
import { createRequire } from "node:module";
import { join } from "node:path";

const [folder, port] = process.argv.slice(2);
const require = createRequire(join(folder, "package.json"));
const app = require("express")();

app.use(require("compression")({ threshold: 0 }));
app.use(({ method, url, headers }, answer) => {
  const passed = request({ host: "127.0.0.1", port, method, path: url, headers }, (from) => {
    answer.writeHead(from.statusCode, from.headers);
    from.pipe(answer);
  });
  answer.on("close", () => passed.destroy());
  passed.end();
});
const server = app.listen(0, "127.0.0.1", () => console.log(server.address().port));
