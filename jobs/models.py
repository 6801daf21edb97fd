"""`spark-submit jobs/models.py list|show …`: the same options as `ecdctr models`."""

import sys

from ecdctr.cli import main

if __name__ == "__main__":
    main(["models", *sys.argv[1:]])
