"""The question before a command that has much effect."""

import sys

import typer


def is_confirmed(question: str, instead: str) -> bool:
    """Ask on the terminal. Elsewhere return False, and print what to do ``instead``."""
    if not sys.stdin.isatty():
        sys.stderr.write(f"This is no terminal to ask on: {instead}.\n")
        return False
    return typer.confirm(question, err=True)
