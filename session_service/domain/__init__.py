"""The session rules: pure values and arithmetic, without Redis, HTTP, a clock or I/O."""
