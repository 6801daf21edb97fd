"""`spark-submit jobs/compare.py …`: the same options as `ecdctr compare`."""

import sys

from ecdctr.cli import main

if __name__ == "__main__":
    main(["compare", *sys.argv[1:]])
