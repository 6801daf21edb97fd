"""What a finished command was asked for, kept beside the file that answers it and tied to that very file."""

import hashlib
import json
from pathlib import Path
from typing import Any

from ecdctr.artifacts.files import write_json

DIGEST = "answer_sha256"


def write_state(state: Path, asked: dict[str, Any], digest: str) -> None:
    """Keep what was asked for.

    Args:
        state: The file for it.
        asked: What decides the answer.
        digest: SHA-256 of the file that holds the answer: it and the state are replaced one after the other.
    """
    write_json(state, asked | {DIGEST: digest})


def finished_answer(state: Path, asked: dict[str, Any], answer: Path) -> bytes | None:
    """The file that answers what is asked; None where it answers something else, or nothing is there.

    Args:
        state: As `write_state` has written it.
        asked: What decides the answer.
        answer: The file that holds it.
    """
    try:
        kept, found = json.loads(state.read_text()), answer.read_bytes()
    except (OSError, ValueError):
        return None
    return found if kept == asked | {DIGEST: hashlib.sha256(found).hexdigest()} else None
