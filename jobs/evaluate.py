"""`spark-submit jobs/evaluate.py …`: the same options as `ecdctr evaluate`."""

import sys

from ecdctr.cli import main

if __name__ == "__main__":
    main(["evaluate", *sys.argv[1:]])
