"""The table of ``sessions watch``, as wide and as high as the terminal."""

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from session_service.console.formats import countdown, number_of, short_time, shortened
from session_service.console.watched import Row, Watched
from session_service.output import printable

_LINES = 3  # the head, the names of the columns, and the foot
_SHORT, _WHOLE = 9, 36  # columns that an id takes
_OTHERS = 4 + 7 + 8 + 22  # columns of age, time left, state and last event
_STYLES = {"expiring": "yellow", "ended": "dim", "expired": "dim"}


def room_of(console: Console) -> int:
    """Return the number of sessions that fit on the screen."""
    return max(1, console.height - _LINES)


def render(
    console: Console, watched: Watched, *, user: str | None, agent: str | None, connection: str
) -> RenderableType:
    """Return the screen: a column for the user or the agent only if they differ."""
    columns = 1 + (user is None) + (agent is None)
    width = console.width - _OTHERS - 2 * (columns + 4)
    is_whole = width >= (columns - 1) * _SHORT + _WHOLE
    rows = watched.rows
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", expand=True)
    for name in ("ID", *_names(user, agent), "AGE", "LEFT", "STATE"):
        table.add_column(name, no_wrap=True, justify="right" if name in ("AGE", "LEFT") else "left")
    table.add_column("LAST EVENT", no_wrap=True, ratio=1)
    for row in rows:
        ids = [row.session_id if is_whole else shortened(row.session_id)]
        ids += [] if user else [shortened(row.user_id)]
        ids += [] if agent else [shortened(row.agent_id)]
        cells = (*ids, *_facts(row, watched.now))
        style = _STYLES.get(row.state, "")
        table.add_row(*(Text(printable(cell), style) for cell in cells))
    more = watched.total - sum(row.over_at is None for row in rows)
    foot = Text(f"… and {more:,} more" if more > 0 else "", "dim")
    return Group(_head(watched, user, agent, connection), table, foot)


def _names(user: str | None, agent: str | None) -> list[str]:
    return [*([] if user else ["USER"]), *([] if agent else ["AGENT"])]


def _head(watched: Watched, user: str | None, agent: str | None, connection: str) -> Table:
    told = number_of(watched.total, "session")
    told += f" of user {shortened(user)}" if user else ""
    told += f" with agent {shortened(agent)}" if agent else ""
    head = Table.grid(expand=True)
    head.add_column(no_wrap=True)
    head.add_column(no_wrap=True, justify="right", ratio=1, overflow="ellipsis")
    style = "green" if connection == "connected" else "bold red"
    head.add_row(Text(printable(told), "bold"), Text(printable(connection), style))
    return head


def _facts(row: Row, now: float) -> tuple[str, ...]:
    left = "" if row.over_at is not None else countdown(row.expires_at - now)
    event = f"{row.event} {short_time(max(0.0, now - row.event_at))} ago" if row.event else ""
    return short_time(max(0.0, now - row.created_at)), left, row.state, event
