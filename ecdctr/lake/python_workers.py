"""What Spark's Python workers need before they run functions of this package."""

import zipimport


def keep_archives_read() -> None:
    """Have this worker read the directories of Spark's own archives once, not before every task; call it in workers only.

    Spark invalidates the import caches before each task. Up to Python 3.11 that makes every importer of an archive, one
    for each package inside, read the whole directory of `pyspark.zip` anew: a quarter of a second and more for a task
    that may take a hundredth. Those archives do not change while a worker lives; modules in folders are still found.
    """
    zipimport.zipimporter.invalidate_caches = _stay  # type: ignore[assignment]


def _stay(importer: zipimport.zipimporter) -> None:
    """Leave the importer as it is."""
