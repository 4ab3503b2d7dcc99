"""`python -m celeriac`: the same as the `celeriac` command."""

import sys

from celeriac.cli import main

if __name__ == "__main__":
    sys.exit(main())
