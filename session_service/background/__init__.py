"""Background tasks of each node: the sweep, and consumers of events such as the webhooks."""
