"""The naive implementation: aiohttp, and one call of redis-py per request.

Arguments: the store's URL, a body. It has no index and no warnings, and renews by a new TTL.
"""

import asyncio
import sys
import uuid

import uvloop
from aiohttp import web
from redis.asyncio import Redis

TTL = 1800


async def main(url: str, body: str) -> None:
    redis = Redis.from_url(url)

    def reply(content: bytes | str | None, status: int = 200) -> web.Response:
        if content is None:
            return web.json_response({"error": "Session not found"}, status=404)
        return web.Response(status=status, body=content, content_type="application/json")

    async def end(request: web.Request) -> web.Response:
        removed = await redis.delete(f"plain:{request.match_info['id']}")
        return reply(b'{"message":"Session ended successfully"}' if removed else None)

    async def get(request: web.Request) -> web.Response:
        return reply(await redis.get(f"plain:{request.match_info['id']}"))

    async def heartbeat(request: web.Request) -> web.Response:
        return reply(await redis.getex(f"plain:{request.match_info['id']}", ex=TTL))

    async def create(request: web.Request) -> web.Response:
        await request.json()
        await redis.set(f"plain:{uuid.uuid4()}", body, ex=TTL)
        return reply(body, 201)

    app = web.Application()
    app.router.add_delete("/api/messaging/sessions/{id}", end)
    app.router.add_get("/api/messaging/sessions/{id}", get)
    app.router.add_post("/api/messaging/sessions/{id}/heartbeat", heartbeat)
    app.router.add_post("/api/messaging/sessions", create)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(f"http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
