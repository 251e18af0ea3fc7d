"""The limits on requests that hold across all nodes: of users, and of API keys."""
