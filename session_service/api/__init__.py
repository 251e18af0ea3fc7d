"""The types of requests and responses, and the error codes; without aiohttp and Redis.

The server, the API document and clients share them. The package imports ``domain`` only.
"""
