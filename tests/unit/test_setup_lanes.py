"""The lanes themselves: no test without one, none that starts an engine unmarked."""

import ast
from pathlib import Path

TESTS = Path(__file__).parents[1]
ENGINES = {"RankSession", "horovod.spark.run", "spark_session", "SparkSession.builder.getOrCreate"}


def test_every_test_file_lies_in_a_lane(request):
    lanes = {line.split(":")[0] for line in request.config.getini("markers")} - {"campaign"}
    files = [file.relative_to(TESTS) for file in TESTS.rglob("test_*.py")]
    assert files
    assert [file for file in files if file.parts[0] not in lanes] == []


def test_marks_follow_folders_and_fixtures(request):
    own = [item for item in request.session.items if item.path == Path(__file__)]
    assert own
    assert all(item.get_closest_marker("unit") for item in own)
    assert all(
        item.get_closest_marker("spark")
        for item in request.session.items
        if "spark" in getattr(item, "fixturenames", ())
    )


def test_unit_tests_start_neither_ranks_nor_sessions():
    for file in (TESTS / "unit").glob("test_*.py"):
        tree = ast.parse(file.read_text())
        called = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
        assert not called & ENGINES, file.name
