"""The API keys in the store."""
