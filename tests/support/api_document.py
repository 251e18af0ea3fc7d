"""The committed copy of the API document: ``python -m tests.support.api_document`` writes it."""

from pathlib import Path

from session_service.domain.timeouts import TimeoutPolicy
from session_service.web.pages.documents import to_yaml
from session_service.web.rest.openapi import document
from session_service.web.rest.table import routes_of

COPY = Path(__file__).parents[2] / "docs" / "openapi.yaml"


def complete_document() -> bytes:
    """Return the document of a service with access control, session tokens and limits as YAML."""
    routes = routes_of(with_session_tokens=True)
    return to_yaml(document(TimeoutPolicy(), routes, has_access=True, has_limits=True))


if __name__ == "__main__":
    COPY.write_bytes(complete_document())
