"""`spark-submit jobs/score.py --date DATE --input TABLE --output TABLE`: the same options as `ecdctr score`."""

import sys

from ecdctr.cli import main

if __name__ == "__main__":
    main(["score", *sys.argv[1:]])
