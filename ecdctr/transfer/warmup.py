"""Running statistics of re-initialised batch normalisation, from rows that the model is about to train on."""

from collections.abc import Iterable

import torch

from ecdctr.data.batch import Batch
from ecdctr.distributed.collective import Collective
from ecdctr.models.base import CTRModel
from ecdctr.nn.normalization import DistributedBatchNorm
from ecdctr.transfer.autoft import AutoFT


@torch.no_grad()
def warm_batch_norm(model: CTRModel, batches: Iterable[Batch], collective: Collective, seed: int) -> int:
    """Begin running statistics as the mean over some batches, instead of mean 0 and variance 1.

    Re-initialised statistics forget their beginning by a tenth in each training step; a day's few steps leave much of it
    in what scores the next day [ours]. Nothing but running statistics changes, so that training takes the very steps
    that it would take without.

    Args:
        model: Statistics begin anew here; those of AutoFT's frozen twin and of a frozen tower stay.
        batches: Local batches of the training rows, as many on every rank; a rank may have no row of one.
        collective: The ranks.
        seed: Of the dropout masks.

    Returns:
        How many batches.
    """
    # A policy would count these batches as steps of its own.
    network = model.tuned if isinstance(model, AutoFT) else model
    mode = network.training
    network.train()
    # A frozen tower stays in evaluation, with the statistics that came with it.
    norms = [module for module in network.modules() if isinstance(module, DistributedBatchNorm) and module.training]
    seen = 0
    try:
        for norm in norms:
            norm.reset_running_stats()
            norm.averaging = True
        for batch in batches:
            torch.manual_seed((seed * 1_000_003 + seen) * 4096 + collective.rank)
            network(batch.to(network.tables.device))
            seen += 1
    finally:
        for norm in norms:
            norm.averaging = False
        network.train(mode)
    return seen
