"""`python -m arc_experiments.runs [<folders or globs>]` shows all runs: see `overview.command`."""

import sys

from arc_experiments.overview.command import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
