"""The outbox: written by scripts, read by streams and consumers."""
