"""The trial in a process of its own, ended with all it started at a time limit."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil

from ecdctr.doctor.check import Check
from ecdctr.doctor.trial import STAGES

LIMIT_SECONDS = 400.0
TRIAL = "ecdctr.doctor.trial"
AGAIN = "run `ecdctr doctor` again on an idle machine; if it stays, see docs/troubleshooting.md"


def try_engines(limit: float = LIMIT_SECONDS, trial: str = TRIAL) -> list[Check]:
    """Run the trial in a process of its own and end it, with all it started, at a time limit.

    Args:
        limit: Seconds for all stages together.
        trial: Module to run; it is given the file to report in.

    Returns:
        What each stage reported, and one failed check for the stage that never did.
    """
    with tempfile.TemporaryDirectory(prefix="ecdctr-doctor-") as folder:
        report, log = Path(folder) / "report", Path(folder) / "log"
        command = [sys.executable, "-m", trial, str(report)]
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
