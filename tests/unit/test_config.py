"""Configuration: one clear message for each mistake, with the key's path and the nearest valid name."""

from pathlib import Path

import pytest

from ecdctr.config import load_config
from ecdctr.etl.made_with import preparation_digest
from ecdctr.exceptions import ConfigError

pytestmark = pytest.mark.unit

MINIMAL = """
dataset:
  natural: {path: logs/natural}
  ads: {path: logs/ads}
  columns: {user: user, item: item, time: {column: at}, label: click}
"""


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    path = tmp_path / "shop.yml"
    path.write_text(MINIMAL)
    return path


def test_ten_lines_are_enough(config_file):
    config = load_config(config_file)
    assert config.name == "shop"
    assert config.levels.tpm.every == 30
    assert config.warehouse_dir == Path("warehouse/shop")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("rank=2", "unknown key rank; did you mean ranks?"),
        ("levels.tpm.windw=3d", "unknown key levels.tpm.windw; did you mean levels.tpm.window?"),
        ("dataset.columns.usr=x", "unknown key dataset.columns.usr; did you mean dataset.columns.user?"),
        ("ranks=two", "ranks: "),
        ("levels.cpm.every=soon", "levels.cpm.every: 'soon' is not a length of time in days"),
        ("levels.actr.every=2d", "the ad model is updated every day"),
        ("lanes=1", "lanes (1) must be at least ranks (2)"),
        ("name=../up", "is no safe name"),
        ("dataset.day_boundary=8", "dataset.day_boundary"),
        ("dataset.features=[{name: a, kind: idd}]", "dataset.features.0"),
        ("dataset.features=[{name: label, kind: id}]", "is a name that every sample has already"),
        ("arms=[ecdctr, ecdctr]", "an arm is named twice"),
        ("dataset.features=[{name: a, kind: id}, {name: a, kind: ids}]", "feature names given twice: a"),
        ("dataset.features=[{name: a, kind: number, window: 3d}]", "'window' goes with transform 'standardise'"),
        ("dataset.features=[{name: a, kind: age, boundaries: [3, 2]}]", "boundaries must ascend"),
        ("dataset.features=[{name: a, kind: rate, of: [u], windows: [1d, 1d]}]", "a window is given twice"),
        ("dataset.features=[{name: a, kind: sequence, attributes: [shop]}]", "sequence 'a' has attributes ['shop']"),
        ("dataset.negative_sampling={ads: 0.5}", "scored and evaluated"),
        ("dataset.negative_sampling={natural: 0}", "dataset.negative_sampling.natural"),
        ("levels.tpm.fields=[brand]", "levels.tpm.fields names ['brand']"),
    ],
)
def test_a_mistake_names_the_key(config_file, override, message):
    with pytest.raises(ConfigError) as caught:
        load_config(config_file, [override])
    assert message in caught.value.message
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\na: 2\n", "key 'a' is given twice"),
        ("a: !!python/object/apply:os.system ['true']\n", "not valid YAML"),
        ("- 1\n", "expected keys and values"),
        ("dataset: {natural: {path: '${NO_SUCH_VARIABLE_HERE}'}}\n", "no variable NO_SUCH_VARIABLE_HERE"),
    ],
)
def test_hostile_or_broken_yaml_is_refused(tmp_path, text, message):
    path = tmp_path / "bad.yml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message.replace("(", r"\(")):
        load_config(path)


def test_a_missing_file_names_the_nearest(config_file):
    with pytest.raises(ConfigError) as caught:
        load_config(config_file.with_name("shopp.yml"))
    assert "shop.yml" in (caught.value.hint or "")


def test_overlays_and_set_go_over_the_base(tmp_path):
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "defaults.yml").write_text("levels: {cpm: {every: 3d, window: 9d}}\nseed: 5\n")
    path = tmp_path / "x.yml"
    path.write_text(MINIMAL + "levels: {cpm: {every: 4d}}\n")
    config = load_config(path, ["seed=6"])
    assert (config.levels.cpm.every, config.levels.cpm.window, config.seed) == (4, 9, 6)


def test_digests_know_what_decides_a_model(config_file):
    config = load_config(config_file)
    elsewhere = load_config(config_file, ["warehouse=/tmp/elsewhere", "spark.master=local[8]"])
    longer = load_config(config_file, ["walk_days=3"])
    wider = load_config(config_file, ["model.embedding_dim=32"])
    assert config.digest() == elsewhere.digest()
    assert config.digest() != longer.digest()
    assert config.model_digest() == longer.model_digest()
    assert config.model_digest() != wider.model_digest()
    dealt = load_config(config_file, ["levels.actr.training.tables.exchange=row_wise"])
    assert (config.digest(), config.model_digest()) == (dealt.digest(), dealt.model_digest())


@pytest.mark.parametrize(
    ("change", "shared"),
    [
        ("levels.actr.training.batch_size=64", {"tpm", "cpm"}),
        ("transfer.batch_norm=keep", {"tpm", "cpm"}),
        ("transfer.policy=autoft", {"tpm", "cpm"}),
        ("holdout={since: 2024-01-01, until: 2024-01-03}", {"tpm", "cpm"}),
        ("transfer.snapshot_pooling=mean", {"tpm"}),
        ("model.embedding_dim=32", {"tpm"}),
        ("levels.cpm.window=12d", {"tpm"}),
        ("levels.tpm.embedding_dim=4", set()),
        ("seed=9", set()),
        ("arms=[target_only]", {"tpm", "cpm", "actr"}),
    ],
)
def test_a_level_is_shared_by_configurations_that_differ_only_later(config_file, change, shared):
    usual, changed = load_config(config_file), load_config(config_file, [change])
    levels = ("tpm", "cpm", "actr")
    assert {level for level in levels if usual.model_digest(level) == changed.model_digest(level)} == shared


def test_the_shipped_base_repeats_the_schema_s_defaults(config_file):
    root = Path(__file__).parents[2]
    shipped = load_config(root / "conf" / "datasets" / "simulated.yml", ["dataset.simulator=null"])
    assert shipped.levels.tpm.snapshots == load_config(config_file).levels.tpm.snapshots


def test_models_and_tables_do_not_depend_on_where_logs_lie_nor_on_what_ends_a_preparation(config_file):
    usual = load_config(config_file)
    for change in (
        "dataset.natural.path=/elsewhere/natural.parquet",
        "dataset.description=moved",
        "dataset.drop_bad_rows=true",
        "dataset.ads.schema_drift=warn",
    ):
        changed = load_config(config_file, [change])
        assert changed.model_digest() == usual.model_digest(), change
        assert preparation_digest(changed) == preparation_digest(usual), change
    other = load_config(config_file, ["dataset.columns.label=bought"])
    assert other.model_digest() != usual.model_digest()
    assert preparation_digest(other) != preparation_digest(usual)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("vocabularies={item: {min_count: 20}}", "vocabularies names"),
        ("spark.options={spark.hadoop.fs.s3a.secret.key: x}", "spark-defaults.conf"),
        ("seed=202501011230", "less than 4294967296"),
    ],
)
def test_what_would_be_ignored_told_or_overflow_is_refused(config_file, change, words):
    with pytest.raises(ConfigError, match=words):
        load_config(config_file, [change])
