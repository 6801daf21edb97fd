"""`spark-submit jobs/train_actr.py --date DATE …`: the same options as `ecdctr train actr`."""

import sys

from ecdctr.cli import main

if __name__ == "__main__":
    main(["train", "actr", *sys.argv[1:]])
