"""Error replies of a server: the store is unavailable, or our script has a defect."""

import pytest

from session_service.domain.errors import StoreUnavailable
from session_service.store.client.executor import error_code, failure

SCRIPT = "ERR Error running script (call to f_0a1b): @user_script:7: @user_script: 7: "
READONLY = "READONLY You can't write against a read only replica."
OOM = "OOM command not allowed when used memory > 'maxmemory'."


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (READONLY, "READONLY"),
        (f"{SCRIPT}-{READONLY}", "READONLY"),
        (f"{OOM} script: 0a1b, on @user_script:7.", "OOM"),
        (f"{SCRIPT}-{OOM}", "OOM"),
        ("NOPERM User app has no permissions to run the 'evalsha' command", "NOPERM"),
        ("ERR The user executing the script can't run this command or subcommand script: 0a1b,"
         " on @user_script:1.", "NOPERM"),
        (f"{SCRIPT}The user executing the script can't run this command or subcommand", "NOPERM"),
        (f"{SCRIPT}The user executing the script can't access at least one of the keys mentioned"
         " in the command arguments", "NOPERM"),
        ("ERR ACL failure in script: User app has no permissions to run the 'time' command script:"
         " on @user_script:1.", "NOPERM"),
        (f"{SCRIPT}Lua script attempted to execute a command while the cluster is down",
         "CLUSTERDOWN"),
        ("ERR Script attempted to execute a write command while the cluster is down and readonly"
         " script: 0a1b, on @user_script:1.", "CLUSTERDOWN"),
    ],
)  # fmt: skip
def test_a_store_that_says_no_is_unavailable(text: str, code: str) -> None:
    """Refusals of Redis 6.2, 7 and Valkey 9 mean unavailable, inside a script too."""
    assert code == error_code(text)
    assert isinstance(failure(text), StoreUnavailable)


@pytest.mark.parametrize(
    "text",
    [
        "WRONGTYPE Operation against a key holding the wrong kind of value script: 0a1b",
        f"{SCRIPT}-WRONGTYPE Operation against a key holding the wrong kind of value",
        "ERR user_script:3: attempt to index a nil value script: 0a1b, on @user_script:3.",
    ],
)
def test_what_else_it_says_is_a_defect(text: str) -> None:
    """Any other error reply is a defect."""
    assert not isinstance(failure(text), StoreUnavailable)
