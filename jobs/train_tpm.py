"""`spark-submit jobs/train_tpm.py --date DATE …`: the same options as `ecdctr train tpm`."""

import sys

from ecdctr.cli import main

if __name__ == "__main__":
    main(["train", "tpm", *sys.argv[1:]])
