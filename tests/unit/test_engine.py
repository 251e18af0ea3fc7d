"""The inner parts of python-socketio and python-engineio that web/streaming/engine.py uses.

An upgrade that changes one of them fails here with its name, and not as a socket that never closes.
"""

import inspect

import engineio
import pytest
import socketio
from engineio.async_socket import AsyncSocket

from session_service.web.streaming.engine import Engine

SERVER = socketio.AsyncServer(async_mode="asgi")
ENGINE = SERVER.eio


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (SERVER, "eio"),
        (SERVER, "environ"),
        (SERVER, "packet_class"),
        (SERVER.manager, "eio_sid_from_sid"),
        (SERVER.manager, "is_connected"),
        (SERVER.manager, "sid_from_eio_sid"),
        (ENGINE, "create_queue"),
        (ENGINE, "generate_id"),
        (ENGINE, "handlers"),
        (ENGINE, "on"),
        (ENGINE, "ping_interval"),
        (ENGINE, "ping_timeout"),
        (ENGINE, "sockets"),
        (socketio.packet.Packet, "json"),
        (socketio.packet.Packet, "uses_binary_events"),
    ],
)
def test_a_part_is_there(owner: object, name: str) -> None:
    """The library has the attribute that the service uses."""
    assert hasattr(owner, name), f"{owner!r} has no {name} any more: mend web/streaming/engine.py"


def test_a_handshake_is_told_to_a_handler() -> None:
    """A handshake calls ``connect``, in which the service sets the client's deadline."""
    assert inspect.iscoroutinefunction(ENGINE.handlers["connect"])


def test_a_socket_has_the_queue_and_the_id_that_it_is_given() -> None:
    """A socket keeps the queue and id that it gets, and closes at once with ``abort``."""
    engine = Engine(max_sockets=1).server.eio
    socket = AsyncSocket(engine, "id")
    assert (socket.sid, socket.queue.bytes, socket.closed) == ("id", 0, False)
    assert {"wait", "abort"} <= set(inspect.signature(socket.close).parameters)


async def test_the_size_of_what_is_unread_is_known() -> None:
    """The size of unread packets follows every put and get."""
    queue = AsyncSocket(Engine(max_sockets=1).server.eio, "id").queue
    packet = engineio.packet.Packet(engineio.packet.MESSAGE, "12345")
    for item in (packet, None, packet):
        queue.put_nowait(item)
    assert queue.bytes == 10
    queue.get_nowait()
    assert queue.bytes == 5
    queue.get_nowait()
    assert queue.bytes == 5


def test_the_library_asks_for_json_by_two_names() -> None:
    """The library calls ``loads`` with a text, and ``dumps`` with a value and options."""
    packet_class = Engine(max_sockets=1).server.packet_class
    packet = packet_class(encoded_packet='21["a",{"b":1.5}]')
    assert (packet.id, packet.data) == (1, ["a", {"b": 1.5}])
    assert packet_class(data=["é", {"b": [1]}], id=2).encode() == '22["é",{"b":[1]}]'
    (name, problem) = packet_class(encoded_packet='2["a",NaN]').data
    assert (name, "malformed" in problem) == ("unreadable", True)
