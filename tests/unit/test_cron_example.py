"""The cron example acts on exit codes as the contract says, shown with a stand-in for the command."""

import os
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit

SCRIPT = Path(__file__).parents[2] / "examples" / "cron" / "daily.sh"


@pytest.fixture
def run(tmp_path):
    """Runs the script; `codes` are what each call of the command ends with, the last one for ever."""

    def call(codes, date="2024-01-05", tries=3):
        (tmp_path / "codes").write_text("\n".join(map(str, codes)) + "\n")
        (tmp_path / "asked").write_text("")
        command = tmp_path / "ecdctr"
        command.write_text(
            f'#!/bin/sh\ncd {tmp_path}\necho "$@" >> asked\ncode=$(head -n 1 codes)\n'
            '[ "$(wc -l < codes)" -gt 1 ] && sed -i 1d codes\nexit "$code"\n'
        )
        command.chmod(0o755)
        environment = os.environ | {
            "PATH": f"{tmp_path}:{os.environ['PATH']}", "ECDCTR_TRIES": str(tries), "ECDCTR_PAUSE_SECONDS": "0",
        }  # fmt: skip
        done = subprocess.run([str(SCRIPT), "c.yml", date], env=environment, timeout=60, check=False)
        return done.returncode, (tmp_path / "asked").read_text().splitlines()

    return call


PREPARE = "prepare --until 2024-01-05 --config c.yml"
RUN = "run --until 2024-01-05 --config c.yml"


@pytest.mark.parametrize(
    ("codes", "code", "asked"),
    [
        ([0], 0, [PREPARE, RUN]),
        ([4], 0, [PREPARE, RUN]),
        ([3, 75, 0], 0, [PREPARE, PREPARE, PREPARE, RUN]),
        ([75], 75, [PREPARE, PREPARE, PREPARE]),
        ([2], 2, [PREPARE]),
        ([0, 1], 1, [PREPARE, RUN]),
    ],
)
def test_done_goes_on_not_ready_waits_and_errors_stop(run, codes, code, asked):
    assert run(codes) == (code, asked)


def test_on_sundays_tables_are_cleaned(run):
    code, asked = run([0], date="2024-01-07")
    assert code == 0
    assert asked[2:] == ["tables compact --config c.yml", "tables vacuum --yes --config c.yml"]
