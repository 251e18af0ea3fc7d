"""Callers: the parties on whose behalf requests are made."""

from typing import ClassVar

from msgspec import Struct


class Caller(Struct, frozen=True):
    """The party that makes a request.

    Without access control nobody is identified, and every caller is ``Caller.ANONYMOUS``.
    """

    ANONYMOUS: ClassVar["Caller"]


Caller.ANONYMOUS = Caller()
