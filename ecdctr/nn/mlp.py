"""The multi-layer perceptron."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from ecdctr.nn.linear import Linear
from ecdctr.nn.normalization import DistributedBatchNorm


class MLP(nn.Module):
    """Linear → batch norm → ReLU → dropout for each hidden layer, then one linear layer of `out` values.

    Args:
        inputs: Columns of the input.
        hidden_units: Width of each hidden layer.
        out: Columns of the output; None leaves the last linear layer out.
        batch_norm: Whether hidden layers are normalised.
        dropout: Share of hidden values dropped while training.

    Attributes:
        layers: Everything in order, flat.
        width: Columns of the output.
    """

    def __init__(
        self,
        inputs: int,
        hidden_units: Sequence[int],
        *,
        out: int | None = 1,
        batch_norm: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        starts: list[int] = []
        for units in hidden_units:
            starts.append(len(layers))
            # Normalisation has its own bias; one before it has no gradient but noise, which Adam would blow up.
            layers.append(Linear(inputs, units, bias=not batch_norm))
            if batch_norm:
                layers.append(DistributedBatchNorm(units))
            # In place: neither a linear layer nor a normalisation needs its own output for its gradient.
            layers.append(nn.ReLU(inplace=True))
            if dropout:
                layers.append(nn.Dropout(dropout))
            inputs = units
        if out is not None:
            starts.append(len(layers))
            layers.append(Linear(inputs, out))
        self.layers = nn.Sequential(*layers)
        # In a plain list: they share the modules of `layers`, whose names stay the only ones.
        self._parts = [self.layers[start:end] for start, end in pairwise([*starts, len(layers)])]
        self.width = inputs if out is None else out

    def chain(self) -> list[nn.Module]:
        """Its layers as wholes: each hidden layer with its normalisation, activation and dropout, then the last one."""
        return list(self._parts)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, inputs)` → `(B, width)`."""
        for part in self._parts:
            x = part(x)
        return x
