"""Credentials: who calls, verified by keys, by tokens, and in memory only."""
