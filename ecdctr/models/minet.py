"""MiNet (arXiv 2008.02974): a user's lasting interest, and those that clicks of either domain show, weighed for the ad."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ecdctr.data.batch import Batch
from ecdctr.exceptions import ConfigError
from ecdctr.features import FeatureSet
from ecdctr.features.domains import AD, DOMAINS
from ecdctr.features.encoding import PADDING
from ecdctr.models.base import added
from ecdctr.models.joint import JointModel
from ecdctr.nn.interests import ClickAttention, InterestGates
from ecdctr.nn.mlp import MLP
from ecdctr.nn.sequence_pooling import mean_of_clicks


class MiNet(JointModel):
    """Embed, attend to clicks of both domains, weigh interests, predict.

    u is the user's vector, the lasting interest that both domains share; q all other fields, numbers and lists; p_s and
    p_t what the clicks on natural content and on ads show.

        ŷ_ad      = h_ad([q, v_u u, v_s p_s, v_t p_t])
        ŷ_natural = h_natural([q, u])

    Args:
        features: The sample's contract.
        rows: Known rows of each vocabulary.
        seed: Of all initial values.
        natural_clicks: The sequence of the user's clicks on natural content.
        ad_clicks: That of clicks on ads.
        embedding_dim: D.
        tower_units: Hidden layers of each domain's network h.
        gate_units: Of the networks that weigh interests.
        attention_hidden_units: Of the networks that weigh clicks.
        batch_norm: In h.
        dropout: In h.

    Raises:
        ConfigError: A sequence that samples do not have, or that is compared with no field of the impression.
    """

    def __init__(
        self,
        features: FeatureSet,
        rows: Mapping[str, int],
        *,
        seed: int,
        natural_clicks: str,
        ad_clicks: str,
        embedding_dim: int = 16,
        tower_units: Sequence[int] = (128, 64),
        gate_units: Sequence[int] = (32,),
        attention_hidden_units: Sequence[int] = (32,),
        batch_norm: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(features, rows, seed=seed, embedding_dim=embedding_dim, attention_hidden_units=None)
        self.clicks = (natural_clicks, ad_clicks)
        unknown = [name for name in self.clicks if name not in features.attention]
        if unknown:
            raise ConfigError(
                f"no sequence of clicks is called {', '.join(unknown)}; samples have {', '.join(features.attention)}",
                hint="see docs/baselines.md on minet",
            )
        self.others = [name for name in features.list_fields if name not in self.clicks]
        self.user = features.id_fields.index(features.user_field)
        about = (len(features.id_fields) - 1 + len(self.others)) * embedding_dim + len(features.number_fields)
        self.attend = nn.ModuleList(
            ClickAttention(embedding_dim, attention_hidden_units, transfer=name == natural_clicks)
            for name in self.clicks
        )
        self.gates = InterestGates(about + 3 * embedding_dim, 3, gate_units)
        widths = {domain: about + (3 if domain == AD else 1) * embedding_dim for domain in range(len(DOMAINS))}
        self.towers = nn.ModuleList(
            MLP(width, tower_units, batch_norm=batch_norm, dropout=dropout) for width in widths.values()
        )

    def output_bias(self, domain: int) -> Tensor:
        """See `CTRModel.output_bias`."""
        return self.last_bias(self.towers[domain])

    def forward(self, batch: Batch) -> Tensor:
        """Logits `(B,)`."""
        vectors, looked_up = self.embed(batch)
        there = {name: batch.sequences[name] != PADDING for name in self.features.list_fields}
        past = {
            name: added([looked_up[column] for column in (name, *self.features.attributes(name))])
            for name in self.features.list_fields
        }
        user = vectors[:, self.user]
        rest = [vectors[:, at] for at in range(vectors.shape[1]) if at != self.user]
        rest += [mean_of_clicks(past[name], there[name]) for name in self.others]
        about = torch.cat([*rest, batch.numbers], 1)
        interests = [
            attend(past[name], there[name], self._target(name, vectors), user)
            for attend, name in zip(self.attend, self.clicks, strict=True)
        ]
        return self.by_domain(batch, [about, torch.stack([user, *interests], 1)])

    def _target(self, name: str, vectors: Tensor) -> Tensor:
        """What of the impression is compared with a sequence's clicks, `(B, D)`."""
        return added([vectors[:, self.features.id_fields.index(field)] for field in self._compared(name)])

    def head(self, domain: int, shared: Sequence[Tensor]) -> Tensor:
        """See `JointModel.head`."""
        about, interests = shared
        if domain == AD:
            weights = self.gates(torch.cat([about, interests.flatten(1)], 1))
            known = (weights.unsqueeze(-1) * interests).flatten(1)
        else:
            known = interests[:, 0]
        logits: Tensor = self.towers[domain](torch.cat([about, known], 1))
        return logits.squeeze(1)
