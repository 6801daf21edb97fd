"""A task in which one rank raises while the others wait for it in an exchange."""

import torch

from ecdctr.distributed.tasks import rank_task
from ecdctr.exceptions import InputError

KINDS = {"ValueError": ValueError, "InputError": InputError}


@rank_task("fault")
def fault(collective, payload):
    if collective.rank == payload["rank"]:
        raise KINDS[payload["kind"]](payload["message"])
    for _ in range(1000):
        collective.all_reduce_(torch.ones(8))
    return {}
