"""The daily pipeline and the weekly clean-up as Airflow 3 DAGs; adapt the settings at the end, see docs/scheduling.md.

A run with the logical date D works when day D is over: it prepares the tables up to and with D, lets each level train
that its own clock in the configuration calls for, on what was known before D, scores D with a model that has not seen
it, and evaluates D. No step asks what time it is, so a backfill of D does what the run of D would have done.

    logs_arrived ─▶ prepare ─▶ train_tpm ─▶ tpm_in_ledger ─▶ train_cpm ─▶ cpm_in_ledger ─▶ train_actr ─▶ evaluate ─▶ all_done

Levels do not wait for one another's success: where TPM or CPM is not due (skipped) or fails, the next level works with
the newest version in the ledger; a failure makes the run fail at its end all the same.
"""

import datetime as dt
from collections.abc import Sequence
from typing import Any

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.providers.standard.sensors.filesystem import FileSensor
from airflow.sdk import DAG, Param
from airflow.timetables.interval import CronDataIntervalTimetable
from ecdctr_steps import EcdctrStep, LedgerSensor

DATE = "params.date or (data_interval_start | ds)"
DAY = f"{{{{ {DATE} }}}}"
NEXT = f"{{{{ macros.ds_add({DATE}, 1) }}}}"
# Airflow's own `ds` of a run by hand is the day of its start, whatever `params.date` says.
DS = f"{{% set ds = {DATE} %}}{{% set ds_nodash = ds.replace('-', '') %}}"


def daily_pipeline(
    dag_id: str,
    *,
    home: str,
    config: str,
    start_date: dt.datetime,
    schedule: str = "30 1 * * *",
    overrides: Sequence[str] = (),
    levels: Sequence[str] = ("tpm", "cpm", "actr"),
    logs_marker: str | None = None,
    tries: int = 6,
    pause: dt.timedelta = dt.timedelta(minutes=10),
    spark: dict[str, Any] | None = None,
) -> DAG:
    """Prepare, train what is due, evaluate.

    Args:
        dag_id: Name of the DAG.
        home: Folder of the checkout, on the workers.
        config: The YAML of the data set, as seen from `home`; paths in it should be absolute.
        start_date: The first day to prepare, in UTC; earlier days that the logs have are prepared with it.
        schedule: When the logs of the day before are complete, in UTC.
        overrides: `key.path=value`, as `--set` takes them.
        levels: Those that the arms of the configuration need: only ("actr",) for ads alone.
        logs_marker: A file that says that the logs of a day are complete, with {{ ds }} or {{ ds_nodash }} for the day
            that the run works on; None: `prepare` itself tells, by ending with exit code 3, as long as no row of a new
            day has come.
        tries: How often a step that is not ready, or failed for a reason that passes, is tried again.
        pause: Time between tries; grows up to six-fold.
        spark: Further arguments of `SparkSubmitOperator`: conn_id, packages, total_executor_cores, driver_memory, …
    """
    shared = {"home": home, "config": config, "overrides": overrides}
    with DAG(
        dag_id,
        # The data interval is the day that the run works on, whatever Airflow's default for cron texts is.
        schedule=CronDataIntervalTimetable(schedule, timezone="UTC"),
        start_date=start_date,
        catchup=True,
        # One preparation of a warehouse at a time, and days in order, so that A-CTR goes on from its yesterday.
        max_active_runs=1,
        params={"date": Param(None, type=["null", "string"], format="date", description="A day to run by hand.")},
        default_args={
            "retries": tries, "retry_delay": pause, "retry_exponential_backoff": True, "max_retry_delay": 6 * pause,
        },
        tags=["ecdctr"],
        doc_md=__doc__,
    ) as dag:  # fmt: skip

        def step(task_id: str, job: str, *arguments: str, **more: Any) -> EcdctrStep:
            return EcdctrStep(task_id=task_id, job=job, arguments=arguments, **shared, **(spark or {}), **more)

        prepare = step("prepare", "prepare", "--until", NEXT)
        if logs_marker is not None:
            FileSensor(
                task_id="logs_arrived", filepath=DS + logs_marker, mode="reschedule", poke_interval=300,
            ) >> prepare  # fmt: skip
        trained, before = [], None
        for level in levels:
            # Skipped steps are no failures: a day that is prepared already, a level that is not due.
            train = step(
                f"train_{level}", f"train_{level}", "--date", DAY, "--if-due", trigger_rule="none_failed",
            )  # fmt: skip
            prepare >> train
            if before is not None:
                before >> train
            trained.append(train)
            if level != "actr":
                before = LedgerSensor(
                    task_id=f"{level}_in_ledger", level=level, until=DAY, trigger_rule="all_done",
                    poke_interval=300, timeout=6 * 3600, **shared,
                )  # fmt: skip
                train >> before
        evaluate = step(
            "evaluate", "evaluate", "--from", DAY, "--until", NEXT, trigger_rule="none_failed",
        )  # fmt: skip
        trained[-1] >> evaluate
        # A run is judged by its last tasks: without this one, a failed TPM would leave it green.
        [*trained, evaluate] >> EmptyOperator(task_id="all_done", trigger_rule="none_failed")
    return dag


def weekly_upkeep(
    dag_id: str,
    *,
    home: str,
    config: str,
    start_date: dt.datetime,
    schedule: str = "0 4 * * 0",
    overrides: Sequence[str] = (),
    spark: dict[str, Any] | None = None,
) -> DAG:
    """Write small files together, then remove what no live model and no running job needs; arguments as above."""
    shared = {"home": home, "config": config, "overrides": overrides, **(spark or {})}
    with DAG(
        dag_id,
        schedule=CronDataIntervalTimetable(schedule, timezone="UTC"),
        start_date=start_date,
        catchup=False,
        max_active_runs=1,
        default_args={"retries": 3, "retry_delay": dt.timedelta(minutes=30)},
        tags=["ecdctr"],
    ) as dag:
        compact = EcdctrStep(task_id="compact", job="tables", arguments=["compact"], **shared)
        vacuum = EcdctrStep(
            task_id="vacuum", job="tables", arguments=["vacuum", "--yes"], trigger_rule="none_failed", **shared
        )
        compact >> vacuum
    return dag


HOME, CONFIG = "/srv/ecdctr", "conf/datasets/ours.yml"
OVERRIDES = ["warehouse=/srv/ecdctr/warehouse", "runs=/srv/ecdctr/runs"]
SPARK = {
    "conn_id": "spark_default",
    "packages": "io.delta:delta-spark_2.13:4.0.1",
    # One slot for each rank while it trains, and one for the driver's own jobs.
    "total_executor_cores": 9,
}
START = dt.datetime(2024, 3, 1, tzinfo=dt.UTC)

daily = daily_pipeline("ecdctr_daily", home=HOME, config=CONFIG, overrides=OVERRIDES, start_date=START, spark=SPARK)
upkeep = weekly_upkeep("ecdctr_upkeep", home=HOME, config=CONFIG, overrides=OVERRIDES, start_date=START, spark=SPARK)
