"""`python -m search`: the command line, for worker processes that must not depend on the PATH."""

from search.cli import main

main()
