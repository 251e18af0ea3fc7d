// A peer: Fastify and ioredis with auto-pipelining. Argument: the store's socket.

import Fastify from "fastify";
import { Redis } from "ioredis";

const redis = new Redis({ path: process.argv[2], enableAutoPipelining: true });
const app = Fastify();

app.delete("/api/messaging/sessions/:id", async (request, reply) => {
  if (!(await redis.del(`plain:${request.params.id}`))) {
    return reply.code(404).send({ error: "Session not found" });
  }
  return { message: "Session ended successfully" };
});

app.get("/api/messaging/sessions/:id", async (request, reply) => {
  const session = await redis.get(`plain:${request.params.id}`);
  if (session === null) {
    return reply.code(404).send({ error: "Session not found" });
  }
  return reply.type("application/json").send(session);
});

const address = await app.listen({ port: 0, host: "127.0.0.1" });
console.log(address);
