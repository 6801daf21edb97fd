"""All checks in order; the slow ones only when asked for, or when they have not passed here with these versions."""

import hashlib
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil

from ecdctr.config.schema import SparkConfig
from ecdctr.doctor import surroundings
from ecdctr.doctor.check import Check
from ecdctr.doctor.trial import STAGES
from ecdctr.lake.jars import cache_folder, jars_folder

LIMIT_SECONDS = 400.0
AGAIN = "run `ecdctr doctor` again on an idle machine; if it stays, see docs/troubleshooting.md"


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


def try_engines(limit: float = LIMIT_SECONDS) -> list[Check]:
    """Run the trial in a process of its own and end it, with all it started, at a time limit.

    Args:
        limit: Seconds for all stages together.
    """
    with tempfile.TemporaryDirectory(prefix="ecdctr-doctor-") as folder:
        report, log = Path(folder) / "report", Path(folder) / "log"
        command = [sys.executable, "-m", "ecdctr.doctor.trial", str(report)]
        with log.open("wb") as sink:
            process = psutil.Popen(command, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, env=_environment())
            try:
                process.wait(timeout=limit)
                how = f"ended with {process.returncode}"
            except psutil.TimeoutExpired:
                how = f"did not end within {limit:.0f} s"
            finally:
                _end(process)
        lines = report.read_text(encoding="utf-8").splitlines() if report.exists() else []
        checks = [Check(**json.loads(line)) for line in lines]
        if all(check.ok for check in checks) and len(checks) < len(STAGES):
            said = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            detail = f"{how}; it said last: {said[-1][:200] if said else 'nothing'}"
            checks.append(Check(STAGES[len(checks)], False, detail, AGAIN))
    return checks


def _key() -> str:
    seen = [surroundings.versions().detail, surroundings.java().detail, platform.node(), sys.prefix, sys.version]
    pins = surroundings.CONSTRAINTS.read_text(encoding="utf-8") if surroundings.CONSTRAINTS.exists() else ""
    return hashlib.sha256("\n".join([*seen, pins, str(jars_folder())]).encode()).hexdigest()[:16]


def _environment() -> dict[str, str]:
    # Under spark-submit the trial would otherwise join the running application.
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("PYSPARK_GATEWAY")}
    return inherited | {"PYTHONWARNINGS": "ignore"}


def _end(process: psutil.Popen) -> None:
    if not process.is_running():
        return
    for member in [*process.children(recursive=True), process]:
        try:
            member.kill()
        except psutil.NoSuchProcess:
            continue
    process.wait(timeout=10)
