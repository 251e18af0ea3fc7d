"""The question before a command that has much effect."""

import signal
import sys


def is_confirmed(question: str, instead: str) -> bool:
    """Ask on the terminal. Elsewhere return False, and print what to do ``instead``."""
    if not sys.stdin.isatty():
        sys.stderr.write(f"This is no terminal to ask on: {instead}.\n")
        return False
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    # The handler of asyncio cancels the task, which waits for the answer.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        answer = sys.stdin.readline()
    finally:
        signal.signal(signal.SIGINT, handler)
    return answer.strip().lower() in ("y", "yes")
