"""Fetch Delta's jars into the user's cache with Spark's own Ivy, which honours the user's mirrors and settings.

Run in the clone's environment; prints Ivy's report, and a last line that says what is wrong when something is.
"""

import os
import shutil
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlparse

from delta import configure_spark_with_delta_pip
from pyspark.sql import SparkSession

from ecdctr.lake.jars import JARS, damaged, jars_folder


def main() -> int:
    """Resolve, copy, compare digests, then show the folder under its final name."""
    if "ECDCTR_JARS" in os.environ:
        sys.stdout.write(
            f"fatal: ECDCTR_JARS={jars_folder()} lacks some of {', '.join(JARS)}; unset it to fetch them\n"
        )
        return 1
    final = jars_folder()
    final.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetching-", dir=final.parent) as temporary:
        work = Path(temporary) / final.name
        work.mkdir()
        for source in resolved():
            # Ivy puts the organisation before the name: io.delta_delta-storage-4.0.1.jar.
            name = next((name for name in JARS if source.name.endswith(f"_{name}")), source.name)
            shutil.copyfile(source, work / name)
        if wrong := damaged(work):
            sys.stdout.write(f"fatal: {', '.join(wrong)} missing or unlike what Maven Central publishes (SHA-1)\n")
            return 1
        shutil.rmtree(final, ignore_errors=True)
        work.rename(final)
    return 0


def resolved() -> list[Path]:
    """What Ivy resolves for the installed delta-spark, as local files."""
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    builder = SparkSession.builder.master("local[1]").appName("fetch-jars").config("spark.ui.enabled", "false")
    session = configure_spark_with_delta_pip(builder).getOrCreate()
    try:
        listed = session.sparkContext.getConf().get("spark.jars", "") or ""
        return [Path(urlparse(entry).path) for entry in listed.split(",") if entry]
    finally:
        session.stop()


if __name__ == "__main__":
    raise SystemExit(main())
