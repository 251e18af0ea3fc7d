"""The REST API: handlers and routes by topic, the router, and the OpenAPI document."""
