"""A package of feature kinds as an installer leaves it: its module, and the entry points in its own metadata."""

import tomllib
from pathlib import Path

EXAMPLE = Path(__file__).parents[1] / "examples" / "features"
GROUP = "ecdctr.feature_kinds"


def install(site: Path, kinds: dict[str, str], name: str = "shop-features") -> None:
    """Write the metadata of a package that offers some kinds."""
    info = site / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = [f"[{GROUP}]", *(f"{kind} = {target}" for kind, target in kinds.items())]
    (info / "entry_points.txt").write_text("\n".join(lines))


def install_example(site: Path) -> None:
    """The example, whole."""
    install(site, tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]["entry-points"][GROUP])
    (site / "shop_choice.py").write_text((EXAMPLE / "shop_choice.py").read_text())
