"""The cron example acts on exit codes as the contract says, shown with a stand-in for the command."""

import datetime as dt
import os
import subprocess
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

pytestmark = pytest.mark.unit

FOLDER = Path(__file__).parents[2] / "examples" / "cron"
SCRIPT = FOLDER / "daily.sh"


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


def stand_in(file, text):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    file.chmod(0o755)


@pytest.fixture
def started(tmp_path):
    """Runs the crontab's line as cron does; tells whether the day's work is started at an hour (UTC)."""
    (line,) = [line for line in (FOLDER / "crontab").read_text().splitlines() if not line.startswith("#")]
    minute, *others, command = line.split(maxsplit=5)
    assert (minute, others) == ("30", ["*"] * 4)
    command = command.replace("\\%", "%").replace("/tmp/", f"{tmp_path}/").replace("/srv/ecdctr", f"{tmp_path}/site")
    stand_in(tmp_path / "site" / ".venv" / "bin" / "activate", "")
    stand_in(tmp_path / "site" / "examples" / "cron" / "daily.sh", '#!/bin/sh\necho "$@"\n')

    def call(hour):
        stand_in(tmp_path / "bin" / "date", f'#!/bin/sh\n[ "$*" = "-u +%H" ] && echo {hour:02d}\n')
        log = tmp_path / "site" / "daily.log"
        log.unlink(missing_ok=True)
        environment = os.environ | {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}
        done = subprocess.run(["/bin/sh", "-c", command], env=environment, capture_output=True, timeout=60, check=False)
        assert (done.stdout, done.stderr) == (b"", b"")
        return log.exists() and log.read_text() == "conf/datasets/ours.yml\n"

    return call


ZONES = ["UTC", "Europe/Berlin", "America/Los_Angeles", "Asia/Kolkata", "Asia/Kathmandu", "Pacific/Kiritimati"]


def test_the_days_work_starts_once_a_day_soon_after_midnight_utc_whatever_zone_cron_goes_by(started):
    hours = {hour for hour in range(24) if started(hour)}
    first = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
    quarters = [first + place * dt.timedelta(minutes=15) for place in range(366 * 96)]
    for zone in ZONES:
        comes_up = [moment for moment in quarters if moment.astimezone(ZoneInfo(zone)).minute == 30]
        starts = [moment for moment in comes_up if moment.hour in hours]
        assert [moment.date() for moment in starts] == [
            (first + place * dt.timedelta(1)).date() for place in range(366)
        ]
        assert {moment.hour for moment in starts} == {1}
