"""`spark-submit jobs/simulate.py …`: the same options as `ecdctr simulate`."""

import sys

from ecdctr.cli import main

if __name__ == "__main__":
    main(["simulate", *sys.argv[1:]])
