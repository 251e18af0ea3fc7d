"""A peer: FastAPI, uvicorn with uvloop and httptools, redis-py. Argument: the store's URL."""

import socket
import sys

import uvicorn
from fastapi import FastAPI, Response
from fastapi.responses import JSONResponse
from redis.asyncio import Redis

redis = Redis.from_url(sys.argv[1])
app = FastAPI()


@app.delete("/api/messaging/sessions/{session_id}")
async def end(session_id: str) -> Response:
    if not await redis.delete(f"plain:{session_id}"):
        return JSONResponse({"error": "Session not found"}, 404)
    return JSONResponse({"message": "Session ended successfully"})


@app.get("/api/messaging/sessions/{session_id}")
async def get(session_id: str) -> Response:
    session = await redis.get(f"plain:{session_id}")
    if session is None:
        return JSONResponse({"error": "Session not found"}, 404)
    return Response(session, media_type="application/json")


if __name__ == "__main__":
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
        config = uvicorn.Config(app, log_level="warning", access_log=False)
        uvicorn.Server(config).run(sockets=[listener])
