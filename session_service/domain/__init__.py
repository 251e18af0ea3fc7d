"""The rules of sessions: values and arithmetic, without Redis, HTTP, a clock or I/O."""
