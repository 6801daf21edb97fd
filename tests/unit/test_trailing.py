"""What numbers of earlier days are fitted on: windows, moments and quantiles against the values written out."""

import datetime as dt
import math
import statistics

import numpy as np
import pytest

from ecdctr.etl.trailing import Histograms

pytestmark = pytest.mark.unit

EPOCH = dt.date(1970, 1, 1)


def histograms(days: dict[int, list[float]]) -> Histograms:
    """Of values with three significant digits at most."""
    rows = []
    for day, values in days.items():
        for value in sorted(set(values)):
            digits, power = f"{value:.2e}".split("e")
            rows.append(("x", day, int(digits.replace(".", "")), int(power) - 2, values.count(value)))
    # Whatever order Spark hands counts over in.
    return Histograms(rows[::-1])


DAYS = {0: [1.0, 2.0, 2.0], 1: [-3.5, 0.0, 120.0, 1e-7], 2: [9.99], 4: [5.0] * 7}


@pytest.mark.parametrize("day", range(7))
@pytest.mark.parametrize("window", [1, 2, 5])
def test_a_window_ends_before_its_day(day, window):
    found = histograms(DAYS).before("x", EPOCH + dt.timedelta(days=day), window)
    values = sorted(value for at in range(day - window, day) for value in DAYS.get(at, []))
    assert np.repeat(found.values, found.counts).tolist() == values
    if not values:
        assert found.moments() is None
        assert found.quantiles(3) == []
        return
    mean, deviation = found.moments()
    assert mean == pytest.approx(statistics.fmean(values))
    assert deviation == pytest.approx(statistics.pstdev(values), abs=1e-12)
    for parts in (2, 3, 10):
        wanted = [values[math.ceil(len(values) * part / parts) - 1] for part in range(1, parts)]
        assert found.quantiles(parts) == wanted


def test_a_column_that_nobody_counted_has_no_values():
    assert histograms(DAYS).before("y", EPOCH + dt.timedelta(days=1), 5).moments() is None


def test_one_value_under_two_powers_of_ten_is_counted_once():
    rows = [("x", 0, 1000, -2, 3), ("x", 0, 100, -1, 4)]
    found = Histograms(rows).before("x", EPOCH + dt.timedelta(days=1), 1)
    assert (found.values.tolist(), found.counts.tolist()) == ([10.0], [7])
