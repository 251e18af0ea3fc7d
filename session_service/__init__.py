"""Conversation sessions for chat and agent backends: the Sessions API on Redis."""

__version__ = "0.1.0"
