"""Tables dealt to ranks row by row: the same bits as replicated ones, through training, checkpoints and versions."""

import copy
import re
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

from ecdctr.artifacts.checkpoints import CheckpointFolder
from ecdctr.artifacts.files import new_folder
from ecdctr.artifacts.store import ArtifactStore
from ecdctr.artifacts.tensor_files import part_name, parts_of, write_tensors
from ecdctr.config.training import TablesConfig, TrainingConfig
from ecdctr.data.batch import Batch
from ecdctr.distributed.inline import run_inline
from ecdctr.exceptions import ConfigError, IntegrityError, TrainingError
from ecdctr.features import FeatureSet
from ecdctr.models.registry import build
from ecdctr.nn import embedding
from ecdctr.nn.embedding import EmbeddingTables
from ecdctr.nn.stored_rows import StoredRows
from ecdctr.training.table_plan import TableSize, plan_tables
from ecdctr.training.trainer import Trainer
from ecdctr.training.versions import Parts

pytestmark = pytest.mark.unit

FEATURES = FeatureSet(
    id_fields=("user_id", "item_id"),
    number_fields=(),
    sequence_fields={"clicked": 4},
    vocabulary_of={"user_id": "user_id", "item_id": "item_id", "clicked": "item_id"},
    fixed_rows={},
    oov_buckets={"user_id": 1, "item_id": 2},
    attention={"clicked": "item_id"},
)
ROWS = {"user_id": 41, "item_id": 26}
SHARDED = [("user_id", "item_id"), ("item_id",), ("user_id",)]


def batches(steps: int = 6) -> list[Batch]:
    generator = torch.Generator().manual_seed(3)
    made = []
    for _ in range(steps):
        ids = torch.stack([torch.randint(1, n + 9, (24,), generator=generator) for n in ROWS.values()], 1)
        made.append(
            Batch(
                ids=ids,
                numbers=torch.zeros(24, 0),
                sequences={"clicked": torch.randint(0, 26, (24, 4), generator=generator)},
                label=((ids[:, 1] % 3) == 0).float(),
                weight=torch.ones(24),
                day=torch.zeros(24, dtype=torch.int64),
            )
        )
    return made


def model(rows=ROWS):
    return build("dcnv2", features=FEATURES, rows=rows, seed=4, hidden_units=[8], embedding_dim=5)


def train(size: int, sharded: tuple[str, ...], parts=None, **settings):
    """Final tables, state and losses of ranks of which rank 1 has no row in some steps."""
    models = [model() for _ in range(size)]

    def share(collective):
        made = models[collective.rank]
        made.attach(collective)
        if sharded:
            made.tables.shard(sharded, collective)
        trainer = Trainer(made, collective, TrainingConfig(**settings), seed=4)
        losses = []
        for step, batch in enumerate(batches()):
            empty = collective.rank == 1 and step % 2
            own = batch.take(torch.arange(0 if not empty else 24, 24)[collective.rank :: size])
            trainer.fit([own], 99, on_step=lambda progress: losses.append(progress.loss))
        if parts is not None:
            parts[collective.rank] = (trainer.state(), trainer.shard_state())
        gathered = {}
        for name, table in made.tables.tables().items():
            gathered[name] = torch.zeros(ROWS[name], 5)
            made.tables.layout.gather(name, table, ROWS[name], put(gathered[name]), 8)
        for key, state in trainer.sparse.state_dict().items():
            name = key.partition(".")[2]
            gathered[key] = torch.zeros(ROWS[name], *state.shape[1:])
            made.tables.layout.gather(name, state, ROWS[name], put(gathered[key]), 8)
        return losses, gathered, made.network_state()

    return run_inline(size, share)


def put(target):
    return lambda start, values: target[start : start + len(values)].copy_(values)


@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize(
    ("sharded", "optimizer"),
    [*((names, "rowwise_adagrad") for names in SHARDED), (SHARDED[0], "lazy_adam"), (SHARDED[1], "ftrl")],
)
def test_sharded_tables_end_with_the_bits_of_replicated_ones(size, sharded, optimizer):
    settings = {"sparse_optimizer": optimizer, "sparse_l2": 1e-3, "max_norm": 0.05}
    whole, dealt = train(size, (), **settings), train(size, sharded, **settings)
    for one, other in zip(whole, dealt, strict=True):
        assert one[0] == other[0]
        assert all(torch.equal(tensor, other[2][name]) for name, tensor in one[2].items())
    for name, tensor in whole[0][1].items():
        assert torch.equal(tensor, dealt[0][1][name]), name


def test_each_rank_holds_its_share_of_the_rows_with_the_values_of_a_whole_table(monkeypatch):
    monkeypatch.setattr(embedding, "INIT_BLOCK", 4096)
    whole = EmbeddingTables({"a": 70_001, "b": 9}, {"a": 1, "b": 1}, 3, seed=5)
    # Made here, since the threads that play the ranks share it.
    assert whole.weight.shape == (70_010, 3)

    def share(collective):
        tables = EmbeddingTables({"a": 70_001, "b": 9}, {"a": 1, "b": 1}, 3, seed=5)
        tables.shard(["a"], collective)
        assert torch.equal(tables.table("b"), whole.table("b"))
        assert torch.equal(tables.table("a"), whole.table("a")[collective.rank :: 3])
        assert tables.weight.shape == (23_334 + 9, 3)
        with pytest.raises(TrainingError, match="in use"):
            tables.shard([], collective)
        ids = torch.tensor([[0, 70_000, 12][collective.rank], 90_000])[: 1 + collective.rank]
        places = tables.places(ids, "a")
        return torch.equal(
            tables.lookup([places], training=False)[0], whole.lookup([whole.places(ids, "a")], training=False)[0]
        )

    assert run_inline(3, share) == [True] * 3


@pytest.mark.parametrize("given", [1, 4096, 20_000, 70_001])
@pytest.mark.parametrize("sharded", [[], ["a"]])
def test_rows_that_a_parent_gives_are_not_drawn(monkeypatch, given, sharded):
    monkeypatch.setattr(embedding, "INIT_BLOCK", 4096)
    whole = EmbeddingTables({"a": 70_001, "b": 9}, {"a": 1, "b": 1}, 3, seed=5)
    expected = torch.cat([torch.full((given, 3), 7.0), whole.table("a")[given:]])
    drawn, draw = [], EmbeddingTables._drawn

    def seen(tables, name, block):
        drawn.append((name, block))
        return draw(tables, name, block)

    monkeypatch.setattr(EmbeddingTables, "_drawn", seen)

    def share(collective):
        tables = EmbeddingTables({"a": 70_001, "b": 9}, {"a": 1, "b": 1}, 3, seed=5)
        tables.shard(sharded, collective)
        assert tables.load_table("a", torch.full((given, 3), 7.0)) == 70_001 - given
        twin = copy.deepcopy(tables)
        for each in (tables, twin):
            first, step = each.layout.own("a")
            assert torch.equal(each.table("a"), expected[first::step])
            assert torch.equal(each.table("b"), whole.table("b"))
        return True

    assert run_inline(2, share) == [True] * 2
    # A block that has given and other rows is drawn whole; of a sharded vocabulary every block by one rank.
    assert {block for name, block in drawn if name == "a"} == set(range(given // 4096, 18))


def test_no_rank_touches_a_sharded_row_and_still_all_take_part():
    def share(collective):
        tables = EmbeddingTables({"a": 9}, {"a": 1}, 3, seed=5)
        tables.shard(["a"], collective)
        return tables.lookup([torch.zeros(0, 2, dtype=torch.int64)], training=True)[0].shape

    assert run_inline(2, share) == [(0, 2, 3)] * 2


@pytest.mark.parametrize("written", [1, 2, 3, 4])
@pytest.mark.parametrize("read", [1, 2, 4, 6])
def test_rows_written_by_some_ranks_are_read_by_others(written, read):
    whole = torch.randn(23, 2)
    stored = StoredRows([whole[rank::written] for rank in range(written)])
    assert stored.shape == whole.shape
    for rank in range(read):
        # A table may have more rows than what is read into it; these stay.
        target = torch.full((len(whole[rank::read]) + 2, 2), 7.0)
        assert stored.fill(target, rank, read) == len(target) - 2
        assert torch.equal(target[:-2], whole[rank::read])
        assert (target[-2:] == 7).all()
    with pytest.raises(ValueError, match="no table"):
        StoredRows([whole[:4], whole[:6]])


@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_checkpoint_of_two_ranks_goes_on_with_any_number(tmp_path, size):
    parts: dict = {}
    train(2, ("item_id",), parts)
    folder = CheckpointFolder(tmp_path, "task")
    folder.stage(6)
    digests = tuple(folder.save_part(6, rank, 2, parts[rank][1]) for rank in range(2))
    folder.save(6, *parts[0][0], digests)
    assert [folder.whole(rank, size) for rank in range(size)] == [[6]] * size
    grown = {"user_id": 45, "item_id": 29}
    models = [model(grown) for _ in range(size)]

    def share(collective):
        made = models[collective.rank]
        made.attach(collective)
        made.tables.shard(["user_id"], collective)
        trainer = Trainer(made, collective, TrainingConfig(), seed=4)
        tensors, stored, record = folder.load(6)
        trainer.restore(6, tensors | {name: StoredRows(rows) for name, rows in stored.items()}, record)
        states = [state for state, _ in (part[0] for part in parts.values())]
        for key, state in trainer.sparse.state_dict().items():
            name, file = key.partition(".")[2], f"adagrad.{key}"
            old = states[0].get(file)
            if old is None:
                dealt = StoredRows([parts[rank][1][file] for rank in range(2)])
                dealt.fill(old := torch.empty(dealt.shape), 0, 1)
            values = torch.cat([old, torch.zeros(grown[name] - ROWS[name])])
            first, step = made.tables.layout.own(name)
            assert torch.equal(state, values[first::step]), key
        return trainer.progress.step

    assert run_inline(size, share) == [6] * size


def test_a_damaged_part_is_seen_by_the_rank_that_checks_it(tmp_path):
    folder = CheckpointFolder(tmp_path, "task")
    folder.stage(1)
    digests = tuple(folder.save_part(1, rank, 2, {"x": torch.zeros(3 - rank)}) for rank in range(2))
    folder.save(1, {}, {}, digests)
    (tmp_path / "step-000000001" / part_name("state", 1, 2)).write_bytes(b"")
    assert sorted(folder.whole(rank, 2) for rank in range(2)) == [[], [1]]


def test_parts_that_ranks_are_writing_are_no_leftover(tmp_path):
    def write(collective) -> list[str]:
        rows = {"a": torch.full((2,), float(collective.rank))}
        tables = SimpleNamespace(layout=SimpleNamespace(sharded={"a"}), tables=lambda: rows)
        parts = Parts(tmp_path, collective)
        parts.write(SimpleNamespace(model=SimpleNamespace(tables=tables), shard_optimizer_state=dict))
        ArtifactStore(tmp_path).clean()
        collective.barrier()
        if collective.rank == 0:
            with new_folder(tmp_path / "v") as folder:
                parts.move_into(folder)
        collective.barrier()
        return sorted(parts.digests)

    named = sorted(part_name(name, rank, 2) for name in ("tables", "optimizer") for rank in range(2))
    assert run_inline(2, write) == [named] * 2
    assert [path.name for path in tmp_path.iterdir()] == ["v"]
    assert sorted(path.name for path in (tmp_path / "v").iterdir()) == named
    assert [load_file(path)["a"].tolist() for path in parts_of(tmp_path / "v", "tables")] == [[0, 0], [1, 1]]


def test_missing_parts_are_named(tmp_path):
    for rank in (0, 2):
        write_tensors(tmp_path / part_name("tables", rank, 3), {"a": torch.zeros(1)})
    with pytest.raises(IntegrityError, match="tables-00001-of-00003"):
        parts_of(tmp_path, "tables")
    assert parts_of(tmp_path, "optimizer") == []


def test_files_are_those_of_the_library_s_own_writer(tmp_path):
    tensors = {
        "a": torch.randn(3, 4)[:, 1:], "b.c": torch.arange(5), "ü": torch.zeros(0, 2), "s": torch.tensor(2.5),
        "h": torch.randn(3).bfloat16(),
    }  # fmt: skip
    write_tensors(tmp_path / "ours", tensors)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, tmp_path / "theirs")
    ours, theirs = load_file(tmp_path / "ours"), load_file(tmp_path / "theirs")
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in tensors)


SIZES = {"big": [TableSize(1000, 17)], "mid": [TableSize(100, 17)], "small": [TableSize(10, 17)]}


@pytest.mark.parametrize(
    ("settings", "ranks", "chosen"),
    [
        ({}, 2, set()),
        ({"exchange": "row_wise"}, 2, set(SIZES)),
        ({"exchange": "row_wise"}, 1, set()),
        ({"shard_above_bytes": 50_000}, 2, set(SIZES)),
        ({"shard_above_bytes": 50_000}, 1, set()),
        ({"shard_above_bytes": 68_000}, 2, set()),
        ({"shard_above_bytes": 50_000, "exchange_of": {"mid": "replicated"}}, 2, {"big", "small"}),
        ({"shard_above_bytes": 50_000, "exchange_of": {"big": "replicated"}}, 2, set()),
        ({"exchange_of": {"mid": "row_wise", "small": "replicated"}}, 2, {"big", "mid"}),
        ({"exchange_of": {"mid": "row_wise"}}, 1, set()),
        ({"exchange": "replicated", "exchange_of": {"mid": "row_wise"}}, 2, {"mid"}),
        ({"exchange": "row_wise", "exchange_of": {"mid": "replicated"}}, 2, {"big", "small"}),
        ({"max_table_bytes": 75_479}, 2, set(SIZES)),
        ({"max_table_bytes": 75_480}, 2, set()),
        ({"exchange": "replicated", "max_table_bytes": 75_480}, 2, set()),
    ],
)
def test_which_tables_are_sharded(settings, ranks, chosen):
    assert plan_tables(TablesConfig(**settings), SIZES, ranks) == chosen


@pytest.mark.parametrize(
    ("settings", "ranks", "found", "way_out"),
    [
        ({"exchange": "replicated"}, 2, "75,480", r"row_wise \(37,740 bytes"),
        (
            {"exchange_of": {"big": "replicated"}},
            2,
            "71,740",
            r"set tables.exchange_of.big to row_wise \(37,740 bytes",
        ),
        (
            {"exchange": "replicated", "exchange_of": {"big": "replicated", "mid": "row_wise"}},
            2,
            "72,080",
            "set tables.exchange and tables.exchange_of.big to row_wise",
        ),
        ({"exchange": "auto"}, 1, "75,480", "2 ranks or more, lower"),
        ({"exchange": "replicated"}, 1, "75,480", "2 ranks or more with tables.exchange row_wise"),
    ],
)
def test_tables_beyond_the_limit_are_refused_with_bytes_limit_and_way_out(settings, ranks, found, way_out):
    with pytest.raises(
        ConfigError, match=rf"{found} bytes on each of {ranks} ranks .* max_table_bytes is 40,000"
    ) as caught:
        plan_tables(TablesConfig(max_table_bytes=40_000, **settings), SIZES, ranks)
    assert re.search(way_out, caught.value.hint)


def test_an_exchange_of_a_table_that_there_is_not_is_refused():
    with pytest.raises(ConfigError, match=r"exchange_of names mdi, which .* no vocabulary of") as caught:
        plan_tables(TablesConfig(exchange_of={"mdi": "row_wise"}), SIZES, 2)
    assert "big, mid, small" in caught.value.hint
