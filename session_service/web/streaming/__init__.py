"""Server-sent events and Socket.IO."""
