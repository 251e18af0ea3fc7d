"""HTTP itself: the server, requests, responses and errors."""
