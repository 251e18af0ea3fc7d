"""Metrics: plain numbers in memory that the workers of a node share, exposed to Prometheus."""
