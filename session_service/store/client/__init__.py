"""Runs scripts on one server, a Sentinel group or a cluster: the only package with topologies."""
