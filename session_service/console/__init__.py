"""The commands that talk to a running service through its client, and never bypass it."""
