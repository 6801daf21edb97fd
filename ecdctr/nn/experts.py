"""Mixtures of experts: one gated sum, and the extraction layer of PLE (Tang et al., RecSys 2020)."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn


def gated_sum(gate: Tensor, experts: Tensor) -> Tensor:
    """Σ_e softmax(gate)_e · expert_e: `(B, E)` and `(B, E, W)` → `(B, W)`."""
    return torch.einsum("be,bew->bw", gate.softmax(-1), experts)


class ExtractionLayer(nn.Module):
    """Experts of each task's own and shared ones; a task mixes its own with the shared, the shared state mixes all.

    Args:
        inputs: Columns of every state.
        expert: Makes one expert of that many columns, whose output has `width` columns.
        width: Columns of an expert's output.
        tasks: How many tasks.
        specific: Experts of each task.
        shared: Experts of all.
        last: Whether no layer follows; then the shared state is not needed, and left out.
    """

    def __init__(
        self,
        inputs: int,
        expert: Callable[[int], nn.Module],
        width: int,
        *,
        tasks: int,
        specific: int,
        shared: int,
        last: bool,
    ) -> None:
        super().__init__()
        self.width = width
        self.count = specific
        # Those of the first task first.
        self.specific = nn.ModuleList(expert(inputs) for _ in range(tasks * specific))
        self.shared = nn.ModuleList(expert(inputs) for _ in range(shared))
        self.gates = nn.ModuleList(nn.Linear(inputs, specific + shared, bias=False) for _ in range(tasks))
        self.shared_gate = None if last else nn.Linear(inputs, tasks * specific + shared, bias=False)

    def forward(self, states: Sequence[Tensor]) -> list[Tensor]:
        """One state per task and the shared one, `(B, inputs)` each → the same, `(B, width)` each."""
        specific = self.count
        *own, common = states
        shared = [expert(common) for expert in self.shared]
        everyone: list[Tensor] = []
        mixed = []
        for task, (state, gate) in enumerate(zip(own, self.gates, strict=True)):
            experts = [expert(state) for expert in self.specific[task * specific : (task + 1) * specific]]
            mixed.append(gated_sum(gate(state), torch.stack([*experts, *shared], 1)))
            everyone += experts
        if self.shared_gate is not None:
            mixed.append(gated_sum(self.shared_gate(common), torch.stack([*everyone, *shared], 1)))
        return mixed
