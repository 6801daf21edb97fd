"""`spark-submit jobs/train_cpm.py --date DATE …`: the same options as `ecdctr train cpm`."""

import sys

from ecdctr.cli import main

if __name__ == "__main__":
    main(["train", "cpm", *sys.argv[1:]])
