"""Runs scripts on Redis, whatever the topology; the only package that knows it."""
