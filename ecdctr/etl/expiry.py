"""The ids that nothing trains by a day, because their tokens were not seen for too long: written for the ranks to read."""

import datetime as dt
import hashlib
import json
import logging
import os
import shutil
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

from pyspark.sql import functions as F

from ecdctr.config import Config
from ecdctr.etl.vocabulary import expired_ids
from ecdctr.lake.paths import spark_path
from ecdctr.lake.tables import Lake

logger = logging.getLogger(__name__)

FOLDER = "_expired"
KEPT_SECONDS = 7 * 86_400.0
"""Lists that nobody has asked for so long go; a level that is resumed later makes its list anew."""


@dataclass(frozen=True)
class ExpiredTokens:
    """Ids of one day, as Parquet files with a column `id` below `folder/field=NAME/`.

    Attributes:
        folder: Where they lie.
        digest: SHA-256 of what they are, whatever the files.
        counts: How many, by vocabulary; a vocabulary without any is left out.
    """

    folder: Path
    digest: str
    counts: dict[str, int]

    def renew(self) -> bool:
        """Keep the files for another while; False where there should be some and are none."""
        if not self.counts:
            return True
        try:
            os.utime(self.folder)
        except FileNotFoundError:
            return False
        return True


def write_expired(lake: Lake, config: Config, date: dt.date, root: Path) -> ExpiredTokens:
    """Write the ids that have expired by `date`; none is ever collected.

    Args:
        lake: Tables with impressions of the days before `date`, and the vocabulary.
        config: Its `vocabularies.NAME.expire_after` say what expires.
        date: Day that a level is trained for.
        root: The warehouse's folder.
    """
    ids = expired_ids(lake, config, date).persist()
    try:
        share = F.shiftrightunsigned(F.xxhash64("id"), 32)
        found = ids.groupBy("field").agg(F.count("*").alias("n"), F.sum(share).alias("sum")).orderBy("field").collect()
        digest = hashlib.sha256(json.dumps([[r["field"], r["n"], r["sum"]] for r in found]).encode()).hexdigest()
        counts = {row["field"]: row["n"] for row in found}
        expired = ExpiredTokens(root / FOLDER / f"{date}-{digest[:16]}", digest, counts)
        if not expired.renew():
            draft = expired.folder.with_name(f".{uuid.uuid4().hex}")
            ids.write.partitionBy("field").parquet(spark_path(draft))
            _move(draft, expired.folder)
        _forget_old(root / FOLDER)
    finally:
        ids.unpersist()
    if counts:
        logger.info("expired by %s: %s", date, ", ".join(f"{count:,} of {name}" for name, count in counts.items()))
    return expired


def _move(draft: Path, folder: Path) -> None:
    try:
        draft.rename(folder)
    except OSError:
        # Another job was faster, and what it wrote is the same.
        if not folder.exists():
            raise
        shutil.rmtree(draft, ignore_errors=True)


def _forget_old(root: Path) -> None:
    for folder in root.glob("*") if root.exists() else []:
        try:
            if time.time() - folder.stat().st_mtime > KEPT_SECONDS:
                # At once, so that nobody takes half a list for a whole one.
                gone = folder.rename(root / f".{uuid.uuid4().hex}")
                shutil.rmtree(gone, ignore_errors=True)
        except OSError:
            # Another job was faster, or the list is another user's.
            continue
