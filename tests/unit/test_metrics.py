"""The numbers of metrics: sums over workers, and the text."""

import pytest

from session_service.metrics.catalogue import (
    ACTIVE_REQUESTS,
    CATALOGUE,
    SWEEP_LATENESS,
    TRANSITIONS,
)
from session_service.metrics.exposition import expose
from session_service.metrics.memory import VARIABLE, SharedMemory
from session_service.metrics.numbers import Measurement, Numbers


def of_worker(memory: SharedMemory, worker: int, version: str = "1") -> Numbers:
    """Return the numbers of a worker that inherits the memory, as its supervisor starts it."""
    environment = {VARIABLE: memory.variable_for(worker, "1")}
    return Numbers(SharedMemory.from_environment(environment, version))


def text_of(numbers: Numbers, *measurements: Measurement) -> str:
    return expose(numbers, measurements, "")[0].decode()


def test_any_worker_shows_the_sums_of_all() -> None:
    """A counter that two workers count has the sum in the text of each."""
    memory = SharedMemory.create(2)
    workers = [of_worker(memory, n) for n in range(2)]
    counters = [worker.counter(TRANSITIONS)["ended"] for worker in workers]
    counters[0].add()
    counters[1].add(2)
    for worker in workers:
        assert 'session_service_transitions_total{type="ended"} 3.0' in text_of(worker)


def test_a_new_worker_goes_on_where_the_one_before_it_ended() -> None:
    """A counter of a worker that died keeps its count; a gauge of it begins again."""
    memory = SharedMemory.create(2)
    before = of_worker(memory, 1)
    before.counter(TRANSITIONS)["ended"].add()
    before.gauge(ACTIVE_REQUESTS).add(5)
    after = of_worker(memory, 1)
    after.counter(TRANSITIONS)["ended"].add()
    after.gauge(ACTIVE_REQUESTS).add()
    text = text_of(after)
    assert 'session_service_transitions_total{type="ended"} 2.0' in text
    assert "http_server_active_requests 1.0" in text


def test_a_worker_of_another_version_counts_alone() -> None:
    """Its numbers may have other places, so it writes nothing into the memory of the others."""
    memory = SharedMemory.create(2)
    other = of_worker(memory, 0, version="2")
    other.counter(TRANSITIONS)["created"].add()
    same = of_worker(memory, 1)
    same.counter(TRANSITIONS)
    assert 'type="created"} 0.0' in text_of(same)


@pytest.mark.parametrize(("value", "bucket"), [(0.1, "0.1"), (0.11, "0.25"), (999.5, "+Inf")])
def test_a_value_counts_in_its_bucket_and_all_above(value: float, bucket: str) -> None:
    """A bound belongs to its bucket, and a value above all bounds to the infinite one."""
    numbers = Numbers()
    numbers.distribution(SWEEP_LATENESS).observe(value)
    counts = {
        line.split('"')[1]: float(line.split()[-1])
        for line in text_of(numbers).splitlines()
        if "_bucket{" in line
    }
    bounds = list(counts)
    assert [counts[each] for each in bounds] == [
        float(n >= bounds.index(bucket)) for n in range(len(bounds))
    ]
    assert f"session_service_sweep_lateness_seconds_sum {value}" in text_of(numbers)


def test_names_follow_the_conventions() -> None:
    """Counters end with _total, durations with _seconds, and no label is an id."""
    for family in CATALOGUE:
        assert family.help.endswith(".")
        assert family.name.endswith("_total") == (family.kind == "counter"), family.name
        assert not any("id" in label.split("_") for label in family.labels), family.name
        if family.kind == "histogram":
            assert list(family.bounds) == sorted(set(family.bounds))


def test_gauges_that_are_read_now_are_in_the_text() -> None:
    """A measurement has its family's help and type."""
    text = text_of(Numbers(), Measurement(ACTIVE_REQUESTS, 7))
    assert "# TYPE http_server_active_requests gauge" in text
    assert "http_server_active_requests 7.0" in text
