"""The checks of ``session-service doctor``; each yields findings, or one that all is in order."""
