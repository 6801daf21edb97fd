"""The multi-layer perceptron."""

from collections.abc import Sequence

from torch import Tensor, nn

from ecdctr.nn.normalization import DistributedBatchNorm


class MLP(nn.Module):
    """Linear → batch norm → ReLU → dropout for each hidden layer, then one linear layer of `out` values.

    Args:
        inputs: Columns of the input.
        hidden_units: Width of each hidden layer.
        out: Columns of the output; None leaves the last linear layer out.
        batch_norm: Whether hidden layers are normalised.
        dropout: Share of hidden values dropped while training.
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
        for units in hidden_units:
            # Normalisation has its own bias; one before it has no gradient but noise, which Adam would blow up.
            layers.append(nn.Linear(inputs, units, bias=not batch_norm))
            if batch_norm:
                layers.append(DistributedBatchNorm(units))
            # In place: neither a linear layer nor a normalisation needs its own output for its gradient.
            layers.append(nn.ReLU(inplace=True))
            if dropout:
                layers.append(nn.Dropout(dropout))
            inputs = units
        if out is not None:
            layers.append(nn.Linear(inputs, out))
        self.layers = nn.Sequential(*layers)
        self.width = inputs if out is None else out

    def forward(self, x: Tensor) -> Tensor:
        """`(B, inputs)` → `(B, width)`."""
        y: Tensor = self.layers(x)
        return y
