"""The two domains, by name in configurations and by number in batches."""

from typing import get_args

from ecdctr.config.features import Domain

DOMAINS: tuple[Domain, ...] = get_args(Domain)
NATURAL, AD = range(2)
