"""`python -m ecdctr`: the command line."""

from ecdctr.cli import main

main()
