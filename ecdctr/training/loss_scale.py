"""Dynamic loss scaling, without which small gradients vanish in 16-bit floats (Micikevicius et al., ICLR 2018, section 3.2)."""

FIRST = 2.0**16
"""Of a mean of losses, before anything is known."""
GROWTH_STEPS = 2000
"""Steps in a row without an overflow after which the factor doubles."""
LARGEST = 2.0**24


class LossScale:
    """The factor by which a loss is multiplied before its gradients are taken, and these are divided after their exchange.

    A step whose gradients overflow on any rank changes no parameter, row or optimiser state on any of them, and halves the
    factor; running statistics have moved by then.

    Args:
        wanted: False: the factor is 1 and stays so.
        rows: Of a step over all ranks, whose losses are added up: the first factor is that of their mean.

    Attributes:
        factor: A power of two, so that scaling alone rounds nothing.
        skipped: Such steps so far.
    """

    def __init__(self, wanted: bool, rows: int) -> None:
        self.wanted = wanted
        self.factor = max(FIRST / 2 ** (rows - 1).bit_length(), 1.0) if wanted else 1.0
        self.skipped = 0
        self._good = 0

    def update(self, overflowed: bool) -> None:
        """Take note of a step, equally on all ranks."""
        if not self.wanted:
            return
        if overflowed:
            self.factor, self._good = max(self.factor / 2, 1.0), 0
            self.skipped += 1
            return
        self._good += 1
        if self._good == GROWTH_STEPS:
            self.factor, self._good = min(self.factor * 2, LARGEST), 0

    def state(self) -> list[float]:
        """For a checkpoint."""
        return [self.factor, self._good, self.skipped]

    def restore(self, state: list[float]) -> None:
        """Take over what `state` gave."""
        self.factor, self._good, self.skipped = float(state[0]), int(state[1]), int(state[2])
