"""The hooks that come with the package."""

from collections.abc import Callable

from ecdctr.hooks.lineage import OpenLineage
from ecdctr.hooks.marker import SuccessMarker
from ecdctr.hooks.protocol import Hook
from ecdctr.hooks.quality_gate import QualityGate
from ecdctr.hooks.webhook import Webhook

SHIPPED: dict[str, Callable[..., Hook]] = {
    "success_marker": SuccessMarker,
    "webhook": Webhook,
    "openlineage": OpenLineage,
    "quality_gate": QualityGate,
}
