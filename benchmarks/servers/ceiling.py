"""The ceiling for aiohttp: one route, a constant body, no middleware, no store.

Arguments: method, path, status, the body.
"""

import asyncio
import sys

import uvloop
from aiohttp import web


async def main(method: str, path: str, status: str, body: str) -> None:
    code, content = int(status), body.encode()

    async def handler(_: web.Request) -> web.Response:
        await asyncio.sleep(0)
        return web.Response(status=code, body=content, content_type="application/json")

    app = web.Application()
    app.router.add_route(method, path, handler)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(f"http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
