"""Webhooks and the queues of their deliveries in the store."""
