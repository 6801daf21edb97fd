"""All gradients of the network in one buffer, so that a step needs one all-reduce."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class FlatGradients:
    """Views of one flat buffer as the gradients of many parameters, followed by a few scalars.

    Args:
        parameters: The network's parameters.
        scalars: How many float values travel behind the gradients.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], scalars: int) -> None:
        sizes = [parameter.numel() for parameter in parameters]
        self.buffer = torch.zeros(sum(sizes) + scalars, device=parameters[0].device if parameters else None)
        self.gradients = self.buffer[: sum(sizes)]
        self.scalars = self.buffer[sum(sizes) :]
        self._views = [
            (parameter, view.view_as(parameter))
            for parameter, view in zip(parameters, torch.split(self.gradients, sizes), strict=True)
        ]

    def zero(self) -> None:
        """Set everything to zero and make the views the parameters' gradients."""
        self.buffer.zero_()
        for parameter, view in self._views:
            parameter.grad = view

    def gather(self) -> Tensor:
        """The buffer after a backward pass; a gradient that autograd replaced is copied back into its place."""
        for parameter, view in self._views:
            if parameter.grad is not None and parameter.grad is not view:
                view.copy_(parameter.grad)
                parameter.grad = view
        return self.buffer
