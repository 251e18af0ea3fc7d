"""Errors: the body that every error response has."""

from typing import Annotated

from msgspec import Meta

from session_service.api.base import ResponseBody


class ErrorInfo(ResponseBody):
    """What went wrong."""

    code: Annotated[str, Meta(description="Error code")]
    message: Annotated[str, Meta(description="Error message")]
    details: Annotated[str, Meta(description="Detailed error information")]


class Error(ResponseBody, kw_only=True):
    """The one shape of every error."""

    success: Annotated[bool, Meta(examples=[False])]
    error: ErrorInfo
