"""The REST API: routes, handlers and the OpenAPI document."""
