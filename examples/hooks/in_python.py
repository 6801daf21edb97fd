"""The same hooks without a package, handed over in Python as a notebook would: in_python.py CONFIG [UNTIL]."""

import datetime as dt
import sys
from pathlib import Path
from typing import Any

from shop_hooks import Catalogue, RowGuard

from ecdctr import log
from ecdctr.config import load_config
from ecdctr.pipelines.prepare import prepare_tables
from ecdctr.pipelines.workspace import workspace


def prepare(config_path: str, until: dt.date | None = None, *overrides: str) -> dict[str, Any]:
    """Prepare all days before `until`; every new table version goes to `_catalogue.jsonl` in the warehouse."""
    config = load_config(Path(config_path), overrides)
    hooks = [Catalogue(str(config.warehouse_dir / "_catalogue.jsonl")), RowGuard(natural=1, ad=1)]
    with workspace(config, hooks=hooks) as opened:
        return prepare_tables(opened, until)


if __name__ == "__main__":
    log.configure("INFO")
    print(prepare(sys.argv[1], dt.date.fromisoformat(sys.argv[2]) if len(sys.argv) > 2 else None))
