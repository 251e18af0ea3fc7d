"""Pages, and their items one by one."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from typing import Generic, TypeVar

from session_service.api.base import ResponseBody

P = TypeVar("P", bound=ResponseBody)
T = TypeVar("T")
C = TypeVar("C")


class Pages(Generic[P, T, C]):
    """The items of all pages, which are requested as they are needed.

    ::

        sessions = service.sessions.list(user_id=user)
        async for session in sessions: ...
        async for page in sessions.pages(): print(page.total)

    ``cursor`` is where the next page begins: keep it, and pass it to a later call to go on from
    there. A loop that an exception has ended goes on from there, too, if it is begun again.
    """

    def __init__(
        self,
        read: Callable[[C | None], Awaitable[P]],
        items: Callable[[P], Iterable[T]],
        following: Callable[[P], C | None],
        cursor: C | None = None,
    ) -> None:
        self.cursor = cursor
        self._read = read
        self._items = items
        self._following = following

    def __aiter__(self) -> AsyncIterator[T]:
        return self._each()

    async def _each(self) -> AsyncGenerator[T, None]:
        async for page in self.pages():
            for item in self._items(page):
                yield item

    async def pages(self) -> AsyncGenerator[P, None]:
        """Return the pages; ``cursor`` moves on when the next page is asked for."""
        while True:
            page = await self._read(self.cursor)
            yield page
            following = self._following(page)
            if following is None:
                return
            self.cursor = following
