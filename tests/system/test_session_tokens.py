"""Session tokens on several nodes: revoked keys, and the rotation of SESSION_TOKEN_SECRET."""

from pathlib import Path

from aiohttp import ClientSession

from session_service.domain.api_keys import read_key_id
from tests.support.api import SESSIONS, create, post
from tests.support.processes import Start, run
from tests.support.waiting import wait_until

OLD, NEW = "the old secret of 32 bytes or more", "the new secret of 32 bytes or more"
SCOPES = ["sessions:read", "sessions:write", "events:read"]


async def status(client: ClientSession, path: str, token: str) -> int:
    headers = {"Authorization": f"Bearer {token}"}
    async with client.get(path, headers=headers) as response:
        return response.status


async def wait_for(client: ClientSession, path: str, token: str, expected: int) -> None:
    async def has_answered() -> bool:
        return await status(client, path, token) == expected

    await wait_until(has_answered, 10, description=f"a token is answered {expected}")


def new_key(folder: Path, store_url: str) -> str:
    made = run(
        folder,
        "keys",
        "create",
        "web",
        "--scopes",
        ",".join(SCOPES),
        REDIS_URL=store_url,
        AUTH="on",
    )
    assert made.returncode == 0, made.stderr
    return made.stdout.strip()


async def test_a_token_works_on_every_node_until_its_key_is_revoked(
    start: Start, store_url: str, tmp_path: Path
) -> None:
    """Nodes with the same secret accept it, also those of a rotation; a revoked key ends it."""
    key = new_key(tmp_path, store_url)
    settings = {"REDIS_URL": store_url, "AUTH": "on", "LOG_LEVEL": "debug"}
    first = start(**settings, SESSION_TOKEN_SECRET=OLD)
    second = start(**settings, SESSION_TOKEN_SECRET=f"{NEW},{OLD}", WEB_CONCURRENCY="2")
    async with first.client() as one, second.client() as two:
        one.headers["X-API-KEY"] = two.headers["X-API-KEY"] = key
        path = f"{SESSIONS}/{(await create(one))['sessionId']}"
        old = (await post(one, f"{path}/tokens", {"scopes": SCOPES}))["token"]
        new = (await post(two, f"{path}/tokens", {"scopes": SCOPES}))["token"]
        del one.headers["X-API-KEY"], two.headers["X-API-KEY"]
        assert [await status(client, path, old) for client in (one, two)] == [200, 200]
        assert [await status(client, path, new) for client in (one, two)] == [401, 200]
        for _ in range(4):  # connections of both workers
            async with second.client() as another:
                async with another.get(f"{path}/events?token={new}") as stream:
                    assert stream.status == 200
                async with another.get(f"{path}/events?token={new}x") as refused:
                    assert refused.status == 401
        revoked = run(tmp_path, "keys", "revoke", read_key_id(key) or "", **settings)
        assert revoked.returncode == 0, revoked.stderr
        await wait_for(one, path, old, 401)
        for token in (old, new):
            await wait_for(two, path, token, 401)
    for node in (first, second):
        assert '"path":"' in node.stderr
        assert not [text for text in (key, old, new) if text[-43:] in node.stderr + node.stdout]


def test_a_secret_without_access_control_is_told(start: Start, store_url: str) -> None:
    """The start warns that the secret has no effect, and does not show it."""
    service = start(REDIS_URL=store_url, SESSION_TOKEN_SECRET=OLD)
    assert service.start_line
    (line,) = [each["event"] for each in service.log if "SESSION_TOKEN_SECRET" in each["event"]]
    assert "no effect" in line
    assert OLD not in service.stderr
