"""The two domains, by name in configurations and by number in batches."""

from typing import Literal, get_args

Domain = Literal["natural", "ad"]
DOMAINS: tuple[Domain, ...] = get_args(Domain)
NATURAL, AD = range(2)
