"""One step of ecdctr as a Spark job, and a sensor on its ledger, for Airflow 3.

The exit code of a step decides what becomes of its task:

====  ==========================  ==========================================
code  the step says               the task
====  ==========================  ==========================================
0     done                        success
2     bad input or configuration  failed, without another try
3     upstream is not ready       up for retry
4     nothing to do               skipped
75    temporary                   up for retry
else  anything else               up for retry; a re-run goes on where it was
====  ==========================  ==========================================

Only `deploy_mode="client"` hands the code of the job on: in cluster mode `spark-submit` ends with its own.
"""

import datetime as dt
import json
import re
import subprocess
from collections.abc import Sequence
from typing import Any

from airflow.exceptions import AirflowException, AirflowFailException, AirflowSkipException
from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.sdk import BaseSensorOperator

BAD_INPUT, NOT_READY, NOTHING_TO_DO, TEMPORARY = 2, 3, 4, 75
LATER = {NOT_READY: "upstream is not ready", TEMPORARY: "the step stopped for a reason that passes"}
_SUBMIT_CODE = re.compile(r"Error code is: (\d+)")

# What training on Spark needs: a lost rank ends its ring, and Spark alone must not start it again.
TRAINING_CONF = {
    "spark.task.maxFailures": "1",
    "spark.speculation": "false",
    "spark.dynamicAllocation.enabled": "false",
}


class EcdctrStep(SparkSubmitOperator):
    """`spark-submit jobs/NAME.py` with what its exit code means to a scheduler.

    Args:
        job: Name of the file in `jobs/`, without its ending.
        arguments: Options of the step; templated.
        home: Folder of the checkout: `jobs/`, `conf/` and `.venv/`, on the worker.
        config: The YAML of the data set, as seen from `home`.
        overrides: `key.path=value`, as `--set` takes them.
        spark_conf: Spark properties beside those of training.
        kwargs: As `SparkSubmitOperator` takes them.
    """

    def __init__(
        self,
        *,
        job: str,
        arguments: Sequence[str] = (),
        home: str,
        config: str,
        overrides: Sequence[str] = (),
        spark_conf: dict[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        python = f"{home}/.venv/bin/python"
        kwargs.setdefault("name", f"ecdctr {job}")
        kwargs.setdefault("env_vars", {"PYSPARK_PYTHON": python, "PYSPARK_DRIVER_PYTHON": python})
        super().__init__(
            application=f"{home}/jobs/{job}.py",
            application_args=[*arguments, *config_options(home, config, overrides), "--json"],
            conf=TRAINING_CONF | (spark_conf or {}),
            deploy_mode="client",
            **kwargs,
        )

    def execute(self, context: Any) -> None:
        """Run the job.

        Raises:
            AirflowFailException: Bad input or configuration.
            AirflowSkipException: Nothing to do.
            AirflowException: Anything else that another try may mend.
        """
        try:
            super().execute(context)
        except AirflowException as error:
            found = _SUBMIT_CODE.search(str(error))
            raise meaning(int(found[1])) if found else error from error


def meaning(code: int) -> AirflowException:
    """What Airflow is told of a code other than 0."""
    if code == BAD_INPUT:
        return AirflowFailException("bad input or configuration (exit code 2): see the error above, nothing to retry")
    if code == NOTHING_TO_DO:
        return AirflowSkipException("nothing to do (exit code 4)")
    return AirflowException(f"{LATER.get(code, 'the step failed')} (exit code {code})")


def config_options(home: str, config: str, overrides: Sequence[str]) -> list[str]:
    """Options that every command takes; a relative path is one below `home`."""
    path = config if config.startswith("/") else f"{home}/{config}"
    return ["--config", path, *(part for override in overrides for part in ("--set", override))]


class LedgerSensor(BaseSensorOperator):
    """Waits until the ledger has a version of a level that the configuration goes on from.

    It asks `ecdctr models list --json`, which reads the Delta log and no more: no Spark, about two seconds.

    Args:
        level: tpm, cpm or actr.
        until: The version's date is at most this day; templated.
        since: The version's date is at least this day; by default any; templated.
        home: As of `EcdctrStep`.
        config: As of `EcdctrStep`.
        overrides: As of `EcdctrStep`.
        kwargs: As `BaseSensorOperator` takes them.
    """

    template_fields: Sequence[str] = ("until", "since")

    def __init__(
        self,
        *,
        level: str,
        until: str,
        since: str | None = None,
        home: str,
        config: str,
        overrides: Sequence[str] = (),
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("mode", "reschedule")
        super().__init__(**kwargs)
        self.level = level
        self.until = until
        self.since = since
        self.home = home
        self.config = config
        self.overrides = overrides

    def poke(self, context: Any) -> bool:
        """Look once.

        Raises:
            AirflowFailException: The configuration is wrong.
            AirflowException: The ledger cannot be read.
        """
        until = dt.date.fromisoformat(self.until)
        since = dt.date.fromisoformat(self.since) if self.since else dt.date.min
        dates = [
            date
            for version in self.versions()
            if version["level"] == self.level and version["current"]
            if since <= (date := dt.date.fromisoformat(version["date"])) <= until
        ]
        self.log.info(
            "%s in the ledger from %s to %s: %d, newest %s",
            self.level,
            self.since,
            until,
            len(dates),
            max(dates, default=None),
        )
        return bool(dates)

    def versions(self) -> list[dict[str, Any]]:
        """Rows of `ecdctr models list`; none while it says that something is not ready."""
        command = [
            f"{self.home}/.venv/bin/ecdctr",
            "models",
            "list",
            *config_options(self.home, self.config, self.overrides),
            "--json",
        ]
        done = subprocess.run(command, cwd=self.home, capture_output=True, text=True, timeout=300, check=False)
        if done.returncode in LATER:
            return []
        if done.returncode:
            self.log.error("%s", done.stderr[-2000:])
            raise meaning(done.returncode)
        versions: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])["result"]["versions"]
        return versions
