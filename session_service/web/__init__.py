"""Serves HTTP: REST, streams and Socket.IO."""
