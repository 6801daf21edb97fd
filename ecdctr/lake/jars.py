"""Delta's jars in the user's cache, so that Spark starts without asking a network. Loads no Spark."""

import hashlib
import os
from pathlib import Path

from ecdctr.exceptions import NotReadyError

DELTA_VERSION = "4.0.1"
# File name -> SHA-1 as Maven Central publishes it beside the jar: what Ivy resolves for io.delta:delta-spark_2.13:4.0.1.
JARS = {
    "delta-spark_2.13-4.0.1.jar": "3e469898dc4ed083c735ae360beb063adcd12e9d",
    "delta-storage-4.0.1.jar": "ebc5384d953c1d70d0ce4ceee42892da74051a81",
    "antlr4-runtime-4.13.1.jar": "17125bae1d965624e265ef49552f6465a2bfa307",
}


def cache_folder() -> Path:
    """The user's cache of this project: ``$XDG_CACHE_HOME/ecdctr``, or ``~/.cache/ecdctr``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ecdctr"


def jars_folder() -> Path:
    """Where Delta's jars are looked for: ``$ECDCTR_JARS`` where set, the user's cache otherwise."""
    given = os.environ.get("ECDCTR_JARS")
    return Path(given) if given else cache_folder() / "jars" / f"delta-{DELTA_VERSION}"


def delta_jars() -> list[Path]:
    """Delta's jars, for ``spark.jars``.

    Returns:
        Absolute paths of the files named in `JARS`.

    Raises:
        NotReadyError: A jar is missing.
    """
    folder = jars_folder().absolute()
    missing = [name for name in JARS if not (folder / name).is_file()]
    if missing:
        raise NotReadyError(
            f"Delta's jars are not complete: {folder} lacks {', '.join(missing)}",
            hint="run `make setup`, or point ECDCTR_JARS at a folder that holds them",
        )
    return [folder / name for name in JARS]


def damaged(folder: Path) -> list[str]:
    """Names of the jars in a folder that are missing or differ from what Maven Central publishes."""
    return [name for name, digest in JARS.items() if _sha1(folder / name) != digest]


def _sha1(file: Path) -> str | None:
    if not file.is_file():
        return None
    with file.open("rb") as source:
        return hashlib.file_digest(source, lambda: hashlib.sha1(usedforsecurity=False)).hexdigest()
