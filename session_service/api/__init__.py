"""What travels over HTTP: the request and response types. No aiohttp, no Redis."""
