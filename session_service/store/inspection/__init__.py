"""What the service finds out about the store that it is connected to."""
