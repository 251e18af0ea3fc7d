"""Sessions, their conversations and their deadlines in the store."""
