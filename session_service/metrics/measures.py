"""Everything that one process counts and measures."""

from collections.abc import Awaitable, Callable, Iterable

from session_service.metrics import catalogue
from session_service.metrics.catalogue import OTHER
from session_service.metrics.memory import SharedMemory
from session_service.metrics.numbers import Measurement, Numbers

# Returns the values of gauges, at the moment of a request for the metrics.
Gauges = Callable[[], Awaitable[Iterable[Measurement]]]


class Measures:
    """The numbers of a process, by their names in the catalogue.

    ``operations`` are the names of the store's scripts, e.g. ``end``. ``gauges`` are called for
    each request for the metrics.
    """

    def __init__(self, memory: SharedMemory | None = None, operations: Iterable[str] = ()) -> None:
        self.numbers = numbers = Numbers(memory)
        self.active_requests = numbers.gauge(catalogue.ACTIVE_REQUESTS)
        self.store_calls = numbers.distributions(
            catalogue.STORE_CALLS, (OTHER, *sorted(operations))
        )
        self.store_batches = numbers.distribution(catalogue.STORE_BATCHES)
        self.transitions = numbers.counter(catalogue.TRANSITIONS)
        self.sweep_lateness = numbers.distribution(catalogue.SWEEP_LATENESS)
        self.event_delivery = numbers.distributions(catalogue.EVENT_DELIVERY)
        self.webhook_deliveries = numbers.counter(catalogue.WEBHOOK_DELIVERIES)
        self.limited = numbers.counter(catalogue.LIMITED)
        self.refused = numbers.counter(catalogue.REFUSED)
        self.gauges: list[Gauges] = []

    async def read_gauges(self) -> list[Measurement]:
        """Return the values of all gauges that are read now."""
        return [each for gauges in self.gauges for each in await gauges()]
