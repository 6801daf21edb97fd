"""All checks in order; the slow ones only when asked for, or when they have not passed here with these versions."""

import hashlib
import platform
import sys

from ecdctr.config.schema import SparkConfig
from ecdctr.doctor import surroundings
from ecdctr.doctor.check import Check
from ecdctr.doctor.engines import try_engines
from ecdctr.lake.jars import cache_folder, jars_folder


def diagnose(full: bool, spark: SparkConfig | None = None) -> list[Check]:
    """Look at the machine and try the engines.

    Args:
        full: Also try what passed before with the same interpreter, versions, JDK and jars.
        spark: How Spark would be started, for the check of its security; the defaults otherwise.

    Returns:
        One check per thing looked at. The engines are not tried where something they need is wrong.
    """
    checks = [
        surroundings.machine(),
        surroundings.python(),
        surroundings.java(),
        surroundings.versions(),
        surroundings.jars(thorough=full),
        surroundings.spark_security(spark or SparkConfig()),
    ]
    if not all(check.ok for check in checks):
        return checks
    record = cache_folder() / "doctor" / _key()
    if record.exists() and not full:
        return [*checks, Check("engines", True, "Spark, Delta and Horovod passed before with these versions")]
    record.unlink(missing_ok=True)
    checks += try_engines()
    if all(check.ok for check in checks):
        record.parent.mkdir(parents=True, exist_ok=True)
        record.touch()
    return checks


def _key() -> str:
    seen = [surroundings.versions().detail, surroundings.java().detail, platform.node(), sys.prefix, sys.version]
    pins = surroundings.CONSTRAINTS.read_text(encoding="utf-8") if surroundings.CONSTRAINTS.exists() else ""
    return hashlib.sha256("\n".join([*seen, pins, str(jars_folder())]).encode()).hexdigest()[:16]
