// A peer: Express and ioredis with auto-pipelining. Argument: the store's socket.

import express from "express";
import { Redis } from "ioredis";

const redis = new Redis({ path: process.argv[2], enableAutoPipelining: true });
const app = express();

app.delete("/api/messaging/sessions/:id", async (request, response) => {
  if (!(await redis.del(`plain:${request.params.id}`))) {
    return response.status(404).json({ error: "Session not found" });
  }
  response.json({ message: "Session ended successfully" });
});

app.get("/api/messaging/sessions/:id", async (request, response) => {
  const session = await redis.get(`plain:${request.params.id}`);
  if (session === null) {
    return response.status(404).json({ error: "Session not found" });
  }
  response.type("application/json").send(session);
});

const server = app.listen(0, "127.0.0.1", () => {
  console.log(`http://127.0.0.1:${server.address().port}`);
});
