"""``python -m session_service``."""

import sys

from session_service.cli import main

if __name__ == "__main__":
    sys.exit(main())
