"""The inner parts of aiohttp and redis-py that the product uses, each by its name.

An upgrade that changes one of them fails here with a sentence, and not as a connection that never
closes. For python-socketio and python-engineio see test_engine.py.
"""

import ast
import inspect
from types import ModuleType

import pytest
from aiohttp import web, web_protocol
from redis.asyncio import Redis
from redis.asyncio.cluster import ClusterNode, NodesManager
from redis.asyncio.connection import AbstractConnection, Connection
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool, SentinelManagedConnection

from session_service.web.http import heads, protocol

PROTOCOL = {  # attributes of aiohttp's RequestHandler
    "_force_close",
    "_keepalive",
    "_keepalive_handle",
    "_keepalive_timeout",
    "_loop",
    "_messages",
    "_next_keepalive_close_time",
    "_payload_parser",
    "_process_keepalive",
    "_request_count",
    "_request_handler",
    "_upgraded",
    "_waiter",
}


@pytest.mark.parametrize("name", sorted(PROTOCOL))
async def test_aiohttp_has_this_attribute(name: str) -> None:
    """A new connection of aiohttp has the attribute."""
    connection = web.Server(lambda _: web.Response())()  # type: ignore[arg-type, return-value]
    assert hasattr(connection, name), f"aiohttp's RequestHandler has no {name} any more"


@pytest.mark.parametrize("module", [heads, protocol], ids=lambda module: module.__name__)
def test_no_other_attribute_of_aiohttp_is_used(module: ModuleType) -> None:
    """The list has every attribute that the product's subclass uses."""
    classes = [
        node
        for node in ast.parse(inspect.getsource(module)).body
        if isinstance(node, ast.ClassDef)
        if issubclass(vars(module)[node.name], web.RequestHandler)
    ]
    assert len(classes) == 1
    own = {
        name
        for base in vars(module)[classes[0].name].__mro__
        if base.__module__.startswith("session_service.")
        for name in (*vars(base), *vars(base)["__slots__"])
        if name not in vars(web.RequestHandler)
    }
    used = {
        node.attr
        for node in ast.walk(classes[0])
        if isinstance(node, ast.Attribute)
        if isinstance(node.value, ast.Name) and node.value.id == "self"
        if node.attr.startswith("_") and not node.attr.startswith("__")
    }
    assert used - own <= PROTOCOL


def test_aiohttp_calls_what_is_overridden() -> None:
    """The library calls the overridden timer of idle connections and error handler."""
    source = inspect.getsource(web.RequestHandler)
    assert "self._process_keepalive" in source, "nothing calls our _process_keepalive any more"
    assert "self.handle_error(" in source, "nothing calls our handle_error any more"
    ours = protocol.HttpProtocol.handle_error
    names = list(inspect.signature(web.RequestHandler.handle_error).parameters)
    assert list(inspect.signature(ours).parameters) == names


def test_aiohttp_takes_an_error_in_place_of_a_request() -> None:
    """The parser puts ``_ErrInfo`` into ``_messages`` for bytes that are no request."""
    fields = list(inspect.signature(web_protocol.__dict__["_ErrInfo"]).parameters)
    assert fields == ["status", "exc", "message"]


def test_redis_py_hands_its_streams_over() -> None:
    """A connection has its streams in ``_reader`` and ``_writer``, which can be detached."""
    connection = Connection()
    for name in ("_reader", "_writer"):
        assert getattr(connection, name, "none") is None, f"redis-py's connection has no {name}"
    assert "nowait" in inspect.signature(AbstractConnection.disconnect).parameters


@pytest.mark.parametrize(
    "name", ["aclose", "get_node", "get_node_from_slot", "initialize", "startup_nodes"]
)
def test_redis_py_has_this_about_a_cluster(name: str) -> None:
    """``NodesManager`` has the undocumented attributes that discover the nodes."""
    node = ClusterNode("localhost", 1)
    assert hasattr(NodesManager([node], False, {}), name), f"redis-py has no NodesManager.{name}"
    assert node.connection_class is Connection
    assert node.connection_kwargs == {"host": "127.0.0.1", "port": 1}


def test_redis_py_finds_a_master_in_one_place() -> None:
    """A connection gets the master's address from its pool, which ours overrides."""
    source = inspect.getsource(SentinelManagedConnection)
    assert "self.connection_pool.get_master_address()" in source, (
        "nothing calls our SentinelPool.get_master_address any more"
    )
    sentinels = Sentinel([("localhost", 1)])
    client: Redis = sentinels.master_for("name", connection_pool_class=SentinelConnectionPool)
    pool = client.connection_pool
    for owner, name in (
        (pool, "sentinel_manager"),
        (pool, "service_name"),
        (pool, "make_connection"),
        (sentinels, "sentinels"),
        (sentinels, "check_master_state"),
        (sentinels.sentinels[0], "sentinel_masters"),
    ):
        assert hasattr(owner, name), f"redis-py's {type(owner).__name__} has no {name} any more"
