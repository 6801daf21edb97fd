"""The all-reduce of the network's gradients, begun while the backward pass still goes on to the tables."""

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from ecdctr.distributed.collective import Collective
from ecdctr.training.flat_gradients import FlatGradients


class EarlyReduction:
    """Begins to sum the buffer once its last gradient has arrived; what is left of the backward pass is the tables' part.

    Where nothing goes on beside the computation (one rank, ranks that share memory), it never begins.

    Args:
        collective: The ranks.
        parameters: Whose gradients the buffer has.
        flat: The buffer; its scalars must be filled before the backward pass.
    """

    def __init__(self, collective: Collective, parameters: Sequence[nn.Parameter], flat: FlatGradients) -> None:
        self._collective, self._flat = collective, flat
        self._parameters = len(parameters)
        self._missing: int | None = None
        self._wait: Callable[[], Tensor] | None = None
        self.possible = collective.size > 1 and collective.overlaps
        if self.possible:
            for parameter in parameters:
                parameter.register_post_accumulate_grad_hook(self._arrived)

    def expect(self) -> None:
        """The backward pass that comes next is the last one of this step."""
        if self.possible:
            self._missing = self._parameters

    def begun(self) -> Callable[[], Tensor] | None:
        """Waits for the sum; None where a parameter had no gradient, or none was expected: then nothing has begun."""
        wait, self._wait, self._missing = self._wait, None, None
        return wait

    def _arrived(self, parameter: Tensor) -> None:
        if self._missing is None:
            return
        self._missing -= 1
        if self._missing == 0:
            self._wait = self._collective.begin_all_reduce_(self._flat.gather())
