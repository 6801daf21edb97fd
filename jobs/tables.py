"""`spark-submit jobs/tables.py list|show|vacuum|compact …`: the same options as `ecdctr tables`."""

import sys

from ecdctr.cli import main

if __name__ == "__main__":
    main(["tables", *sys.argv[1:]])
