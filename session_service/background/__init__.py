"""What goes on beside requests: the sweep and the delivery of webhooks."""
