"""The artifact store: one folder per version, with a manifest of digests as the marker that it is whole."""

import contextlib
import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ecdctr.artifacts.files import digest_file, new_folder, remove_leftovers, write_json
from ecdctr.exceptions import InputError, IntegrityError

logger = logging.getLogger(__name__)

MANIFEST = "manifest.json"


def recorded(folder: Path) -> dict[str, Any]:
    """What the maker of a version has recorded, without a look at its other files.

    Raises:
        IntegrityError: No manifest that can be read.
    """
    try:
        record: dict[str, Any] = json.loads((folder / MANIFEST).read_text())["record"]
    except (OSError, ValueError, KeyError) as error:
        raise IntegrityError(f"version {folder.name} has no readable {MANIFEST}: {error}") from error
    return record


class ArtifactStore:
    """Versions under one root folder.

    A version is a folder with files and a manifest: the SHA-256 of each file and what its maker recorded. The folder
    appears by one rename; a crash leaves at most a temporary folder, which `clean` removes.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, version: str) -> Path:
        """Folder of a version, whether or not it exists."""
        return self.root / version

    def existing(self, version: str) -> Path:
        """Folder of a version that another one is made from.

        Raises:
            InputError: It is gone.
        """
        folder = self.path(version)
        if not folder.exists():
            raise InputError(
                f"the files of {version}, from which this would start, are gone from {self.root}",
                hint="tables vacuum removes files of versions out of use, maintenance.models after their publication: choose a later date, or "
                "another seed or name, by which all is trained anew",
            )
        return folder

    @contextlib.contextmanager
    def publish(
        self, version: str, record: dict[str, Any], known: Mapping[str, str] = MappingProxyType({})
    ) -> Iterator[Path]:
        """Yield a folder to fill; it becomes the version when the block ends well.

        Args:
            version: The version's name.
            record: What the manifest keeps beside the digests; may be filled until the block ends.
            known: Digests of files that were written elsewhere and only move in; they are not read again.
        """
        with new_folder(self.path(version)) as folder:
            yield folder
            files = {
                name: known.get(name) or digest_file(folder / name)
                for name in (str(file.relative_to(folder)) for file in sorted(folder.rglob("*")) if file.is_file())
            }
            write_json(folder / MANIFEST, {"files": files, "record": record})

    def record(self, version: str) -> dict[str, Any] | None:
        """What the maker recorded, or None where the version is not there or not whole."""
        try:
            self.verify(version)
        except IntegrityError as error:
            logger.warning("%s; it is made anew", error.message)
            return None
        manifest = self.path(version) / MANIFEST
        return json.loads(manifest.read_text())["record"] if manifest.exists() else None

    def verify(self, version: str) -> None:
        """Compare every file with its digest.

        Raises:
            IntegrityError: A file that is missing or differs; the manifest itself damaged.
        """
        folder = self.path(version)
        if not folder.exists():
            return
        try:
            manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text())
            files: dict[str, str] = manifest["files"]
        except (OSError, ValueError, KeyError) as error:
            raise IntegrityError(f"version {version} has no readable {MANIFEST}: {error}") from error
        for name, digest in files.items():
            path = folder / name
            if not path.exists():
                raise IntegrityError(f"version {version}: {name} is missing")
            if digest_file(path) != digest:
                raise IntegrityError(f"version {version}: {name} differs from its recorded digest")

    def clean(self) -> None:
        """Remove what interrupted writers left behind; what others are writing now stays."""
        remove_leftovers(self.root)
