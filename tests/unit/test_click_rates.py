"""Which days have all their labels."""

import datetime as dt

import pytest

from ecdctr.etl.click_rates import mature_days

pytestmark = pytest.mark.unit

HOUR = 3600


@pytest.mark.parametrize(
    ("window", "last"), [(0, 9), (1, 8), (3 * HOUR, 8), (24 * HOUR, 8), (24 * HOUR + 1, 7), (48 * HOUR, 7)]
)
def test_a_day_is_mature_when_the_window_of_its_last_moment_has_ended(window, last):
    days = [dt.date(2024, 1, number) for number in range(1, 10)]
    assert mature_days(days, dt.date(2024, 1, 10), window) == days[:last]
