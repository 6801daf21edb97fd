"""A finished run knows its logs again, and notices when they have changed, however they are named."""

import pytest

from ecdctr.config import Config
from ecdctr.pipelines.run import input_stamp

pytestmark = pytest.mark.unit


def stamp(natural: str) -> list:
    columns = {"user": "u", "item": "i", "time": {"column": "t", "unit": "s"}, "label": "y"}
    return input_stamp(
        Config.model_validate(
            {"dataset": {"natural": {"path": natural}, "ads": {"path": natural}, "columns": columns}, "name": "shop"}
        )
    )


@pytest.mark.parametrize("path", ["logs", "logs/day_*.csv", "logs/day_1.csv"])
def test_a_log_that_has_changed_has_another_stamp(tmp_path, path):
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "day_1.csv").write_text("a\n")
    before = stamp(str(tmp_path / path))
    assert before == stamp(str(tmp_path / path))
    (tmp_path / "logs" / "day_1.csv").write_text("a\nb\n")
    changed = stamp(str(tmp_path / path))
    assert changed != before
    (tmp_path / "logs" / "day_2.csv").write_text("c\n")
    assert (stamp(str(tmp_path / path)) == changed) == (path == "logs/day_1.csv")


def test_logs_elsewhere_are_never_known_to_be_the_same():
    assert stamp("s3://shop/logs") != stamp("s3://shop/logs")
