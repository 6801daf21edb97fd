"""AdamW for the network, by torch's fused kernel alone."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


class AdamW:
    """Adam with decoupled weight decay (Loshchilov and Hutter, ICLR 2019), bit for bit `torch.optim.AdamW(fused=True)`.

    Making the first of torch's own optimisers imports its compiler: a second of every rank's start and 140 MB of its
    memory, for nothing that is used here.

    Args:
        groups: `params`, and what the caller wants to know beside them; `lr` is set before each step.
        weight_decay: Of all parameters.
        betas: β₁ and β₂.
        eps: ε.

    Attributes:
        param_groups: The groups.
        state: Of each parameter that has been updated: `step` (a number), `exp_avg` and `exp_avg_sq` (of its shape).
    """

    def __init__(
        self,
        groups: Sequence[dict[str, Any]],
        weight_decay: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        self.param_groups = list(groups)
        self.weight_decay, self.betas, self.eps = weight_decay, betas, eps
        self.state: dict[nn.Parameter, dict[str, Tensor]] = {}

    @torch.no_grad()
    def step(self) -> None:
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            moved = [parameter for parameter in group["params"] if parameter.grad is not None]
            if not moved:
                continue
            states = [self._state_of(parameter) for parameter in moved]
            steps = [state["step"] for state in states]
            torch._foreach_add_(steps, 1)
            torch._fused_adamw_(
                moved, [parameter.grad for parameter in moved], [state["exp_avg"] for state in states],
                [state["exp_avg_sq"] for state in states], [], steps, lr=group["lr"], beta1=self.betas[0],
                beta2=self.betas[1], weight_decay=self.weight_decay, eps=self.eps, amsgrad=False, maximize=False,
            )  # fmt: skip

    def _state_of(self, parameter: nn.Parameter) -> dict[str, Tensor]:
        if parameter not in self.state:
            self.state[parameter] = {
                "step": torch.zeros((), device=parameter.device),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }
        return self.state[parameter]
