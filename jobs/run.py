"""`spark-submit jobs/run.py …`: the same options as `ecdctr run`."""

import sys

from ecdctr.cli import main

if __name__ == "__main__":
    main(["run", *sys.argv[1:]])
