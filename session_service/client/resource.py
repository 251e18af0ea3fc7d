"""The base of the resources, such as ``service.sessions``."""

from session_service.client.transport import Transport


class Resource:
    """Operations on one kind of thing. All take ``timeout``, in seconds, for each attempt."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
