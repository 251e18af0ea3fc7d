"""Inspection of the connected store: its kind, its configuration, its data set, its problems."""
