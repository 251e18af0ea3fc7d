"""The settings of traces: the variables of OpenTelemetry that turn them on, and one of our own.

OpenTelemetry's SDK reads the others itself, e.g. OTEL_TRACES_SAMPLER.
"""

import importlib.util

import msgspec

from session_service.environment import Reader

_EXPORTERS = ("otlp", "console", "none")
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_HTTP = "http/protobuf"
_URL = "a URL such as http://collector.example:4318"


class TracingSettings(msgspec.Struct, frozen=True):
    """Whether there are traces, and how. The defaults are those of docs/settings.md."""

    is_on: bool = False
    to_console: bool = False  # in place of a collector
    with_conversation: bool = False  # gen_ai.conversation.id


def read_tracing(reader: Reader) -> TracingSettings:
    """Read the settings. Traces are on if an exporter or an endpoint is set, and nothing is off.

    While they are off, no value is checked: it may be meant for other programs. With them, the
    extra otel is needed.
    """
    with_conversation = reader.switch("SESSION_OTEL_CONVERSATION_ID")
    is_off = reader.text("OTEL_SDK_DISABLED", "false").lower() == "true"
    exporter = reader.text(
        "OTEL_TRACES_EXPORTER",
        "",
        lambda text: is_off or text.lower() in _EXPORTERS,
        ", ".join(_EXPORTERS),
    ).lower()
    is_off = is_off or exporter == "none"
    is_free = is_off or exporter == "console"
    endpoints = [
        reader.text(name, "", lambda text: is_free or _is_http(text), _URL) for name in _ENDPOINTS
    ]
    is_on = not is_off and any((exporter, *endpoints))
    is_free = is_free or not is_on
    own, shared = _PROTOCOLS
    is_set = bool(reader.text(own, "", lambda text: is_free or text == _HTTP, _HTTP))
    reader.text(shared, "", lambda text: is_free or is_set or text == _HTTP, _HTTP)
    if is_on:
        asking = next(filter(reader.is_set, ("OTEL_TRACES_EXPORTER", *_ENDPOINTS)))
        allowed = "unset: traces need pip install 'session-service[otel]'"
        reader.require(asking, _has_extra(), allowed)
    return TracingSettings(is_on, exporter == "console", with_conversation)


def _is_http(url: str) -> bool:
    return url.startswith(("http://", "https://"))


def _has_extra() -> bool:
    try:
        return importlib.util.find_spec("opentelemetry.exporter.otlp.proto.http") is not None
    except ModuleNotFoundError:
        return False
