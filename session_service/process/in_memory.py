"""A whole service in the process of a test: ``memory://`` of the Python client."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager

from session_service.composition import open_store
from session_service.domain.timeouts import TimeoutPolicy
from session_service.process.listen import listen
from session_service.process.node import serve_on, start_node
from session_service.process.notice import Notice
from session_service.process.tasks import Tasks
from session_service.settings import Settings
from session_service.web.server import Server

_SHORTEST_TIMEOUT = 0.001  # minutes, so that tests need not wait long for an expiry


@asynccontextmanager
async def serve_in_memory() -> AsyncGenerator[str, None]:
    """Serve on fakeredis and a free port of 127.0.0.1, and yield the URL.

    It has the sweep and the deliveries to webhooks, but leaves signals, logs, limits of files and
    the collection of garbage to the program that it is a part of. The environment does not
    matter.
    """
    settings = Settings(
        redis_url="memory://", timeouts=TimeoutPolicy(min_timeout=_SHORTEST_TIMEOUT)
    )
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(open_store(settings))
        state = await start_node(store, stack, Tasks(stack), notice=Notice())
        sockets = await listen(("127.0.0.1",), 0)
        for each in sockets:
            stack.callback(each.close)
        await serve_on(sockets, Server(state, settings.max_connections), stack)
        yield f"http://127.0.0.1:{sockets[0].getsockname()[1]}"
