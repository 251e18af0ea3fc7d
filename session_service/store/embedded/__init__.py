"""The embedded store: a Valkey server that starts and stops with the service."""
