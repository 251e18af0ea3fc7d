"""Runs scripts on one server, a Sentinel group or a cluster.

Other packages call it alike for all of them; only ``inspection`` reports which one it is.
"""
