"""`torch.compile` for the parts of a network that are nothing but tensor operations, while it is trained."""

import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow  # noqa: F401 - before torch: the other order can crash the pinned pair
import torch
from torch import nn

from ecdctr.exceptions import ConfigError
from ecdctr.models.base import CTRModel
from ecdctr.nn.attention import TargetAttention
from ecdctr.nn.normalization import DistributedBatchNorm
from ecdctr.transfer.autoft import AutoFT
from ecdctr.transfer.frozen_tower import FrozenTower

COMPILERS = ("g++", "clang++")
OF_THE_COMPILER = (
    "`torch.jit.script_method` is deprecated",
    "The .grad attribute of a Tensor that is not a leaf Tensor is being accessed",
)
"""What torch's compiler says of its own parts, and of what it looks at itself."""


@contextmanager
def compiled(model: CTRModel, wanted: bool) -> Iterator[None]:
    """Compile a model's network within a block; names and values of its parameters stay what they are.

    Look-ups, attention over clicks, whose number is known from values alone, and normalisation with its exchange between ranks
    run as they are. Sizes of batches are left open, so that a
    step with some rows more is not compiled anew. Compiling takes some tens of seconds at the first step.

    Args:
        model: The model.
        wanted: False: nothing is done.

    Raises:
        ConfigError: No C++ compiler is at hand, or the model is changed by hooks while it runs.
    """
    if not wanted:
        yield
        return
    if isinstance(model, AutoFT | FrozenTower):
        raise ConfigError(
            f"training.compile is set, and {type(model).__name__} reroutes its layers while it runs, which a compiled one cannot",
            hint="leave compile off for arms that mix in a frozen network",
        )
    wanted_compilers = [os.environ["CXX"]] if os.environ.get("CXX") else list(COMPILERS)
    if not any(shutil.which(name) for name in wanted_compilers):
        raise ConfigError(
            f"training.compile is set, and no C++ compiler was found ({', '.join(wanted_compilers)})",
            hint="install one (Debian: g++) where the ranks run, or leave compile off",
        )
    parts = list(_parts(model))
    norms = [module for module in model.modules() if isinstance(module, DistributedBatchNorm)]
    import torch._inductor.config as inductor

    # Its pool of compiling processes would fight the ranks for their cores, and outlive the training.
    with inductor.patch(compile_threads=1), warnings.catch_warnings():
        for message in OF_THE_COMPILER:
            warnings.filterwarnings("ignore", message)
        for norm in norms:
            norm.normalise = torch.compiler.disable(norm.normalise)  # type: ignore[method-assign]
        for part in parts:
            part.compile(dynamic=True)
        try:
            yield
        finally:
            for part in parts:
                part._compiled_call_impl = None
            for norm in norms:
                del norm.normalise


def _parts(module: nn.Module) -> Iterator[nn.Module]:
    """Modules that are called as wholes: children, those of containers one by one."""
    for child in module.children():
        if isinstance(child, nn.ModuleDict | nn.ModuleList):
            yield from _parts(child)
        elif not isinstance(child, TargetAttention):
            yield child
