"""Two commands for one day at once, as a scheduler that lost its patience starts them: one works, the other has nothing to do."""

import json
import os
import subprocess
import sys

import pytest
import yaml

from ecdctr.lake.tables import Lake

pytestmark = [pytest.mark.spark, pytest.mark.campaign, pytest.mark.timeout(900)]


def test_of_two_commands_for_one_day_one_ends_with_0_and_the_other_with_4(
    spark, whole, make_config, write_logs, tmp_path
):
    write_logs()
    config = make_config()
    file = tmp_path / "small.yml"
    settings = {"spark": {"master": "local[1]", "driver_memory": "600m", "shuffle_partitions": 2}}
    file.write_text(yaml.safe_dump(config.model_dump(mode="json", exclude={"spark"}) | settings))
    command = [sys.executable, "-m", "ecdctr", "prepare", "--config", str(file), "--until", "2024-01-05", "--json"]
    jobs = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ)
        for _ in range(2)
    ]
    try:
        answers = [job.communicate(timeout=600) for job in jobs]
    finally:
        for job in jobs:
            job.kill()
    assert sorted(job.returncode for job in jobs) == [0, 4], [error[-1500:] for _, error in answers]
    statuses = sorted(json.loads(out.strip().splitlines()[-1])["status"] for out, _ in answers)
    assert statuses == ["noop", "ok"]
    lake = Lake(spark, config.warehouse_dir)
    for table in ("natural_samples", "ad_samples"):
        rows = [sorted(r["event_id"] for r in each.read(table).collect()) for each in (lake, whole.lake)]
        assert rows[0] == rows[1]
        assert lake.version(table) == 1
