"""The service as a process: start, serve, drain, stop."""
