"""The benchmark of the loop's options: its rows train, and its page says when compiling pays."""

import pytest

from benchmarks import options
from ecdctr.config.training import TrainingConfig
from ecdctr.models.registry import build

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("settings", [{}, {"autocast": "float16"}])
def test_made_up_rows_train(monkeypatch, settings):
    features = options.features()
    model = build(
        "din", features=features, rows=dict.fromkeys(features.vocabularies, options.IDS), seed=1, hidden_units=[8]
    )
    batches = [options.rows_of(20 - at, at) for at in range(4)]
    first, per_step, loss = options.one_run(model, batches, TrainingConfig(**settings))
    assert min(first, per_step) > 0
    assert 0.1 < loss < 2.0
    assert (batches[0].sequences["clicks"] == 0).any()


@pytest.mark.parametrize(("compiled", "said"), [(8.0, "pays from step 10,000 on"), (12.0, "does not pay here")])
def test_the_page_says_from_which_step_on_compiling_pays(compiled, said):
    def run(milliseconds, first):
        return {"milliseconds": [milliseconds], "first": [first], "loss": [0.5]}

    ways = dict.fromkeys(options.WAYS, run(10.0, 1.0)) | {"compile": run(compiled, 21.0)}
    text = options.page({"din": ways}, 2048, 1, (0.1, 1.0))
    assert f"`compile` {said}" in text
    assert f"| compile | {compiled:.1f} | {10 / compiled:.2f} | 21.0 | 0.50000 |" in text
