"""`python -m gvsl`: the command line."""

import sys

from gvsl.cli import main

if __name__ == "__main__":
    sys.exit(main())
