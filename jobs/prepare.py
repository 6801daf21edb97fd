"""`spark-submit jobs/prepare.py …`: the same options as `ecdctr prepare`."""

import sys

from ecdctr.cli import main

if __name__ == "__main__":
    main(["prepare", *sys.argv[1:]])
