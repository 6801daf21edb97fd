"""`spark-submit jobs/export.py --level actr --format onnx OUT …`: the same options as `ecdctr export`."""

import sys

from ecdctr.cli import main

if __name__ == "__main__":
    main(["export", *sys.argv[1:]])
