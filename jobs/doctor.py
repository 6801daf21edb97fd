"""`spark-submit jobs/doctor.py …`: the same options as `ecdctr doctor`."""

import sys

from ecdctr.cli import main

if __name__ == "__main__":
    main(["doctor", *sys.argv[1:]])
