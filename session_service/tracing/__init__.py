"""Traces with OpenTelemetry (the extra otel). This package is imported only if they are on.

Names and attributes are those of the semantic conventions for HTTP and databases.
"""
