"""Which days a preparation writes: those that are new, and open ones of which the logs say something new."""

import datetime as dt
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from types import MappingProxyType

from ecdctr.etl.facts import Day, Fact, days_of
from ecdctr.etl.ingest import Ingest
from ecdctr.lake.schema import DOMAINS

_DAY = dt.timedelta(days=1)


@dataclass(frozen=True)
class Note:
    """What a preparation leaves beside its commit in each table.

    Attributes:
        number: Counts preparations; the transaction version of the commit.
        since: First day that it wrote.
        until: The day after the last one that the table is prepared for.
        closed: Days before this one never change any more; None where there are none.
        plan: Digest of days and files, by which a preparation that goes on knows itself again.
        inputs: Fingerprint of the inputs, where they lie on a local file system.
        rest: Whether the logs have days from `until` on.
        generation: Of the vocabulary: how often ids were dealt anew, from 1.
    """

    number: int
    since: dt.date
    until: dt.date
    closed: dt.date | None
    plan: str
    inputs: str | None
    rest: bool
    generation: int = 1

    def to_json(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self), default=str)

    @classmethod
    def from_json(cls, text: str) -> "Note":
        """The inverse of `to_json`."""
        tree = json.loads(text)
        for name in ("since", "until", "closed"):
            tree[name] = dt.date.fromisoformat(tree[name]) if tree[name] else None
        return cls(**tree)


@dataclass(frozen=True)
class Plan:
    """The days to write.

    Attributes:
        since: First day to write; None where there is nothing to do.
        until: The day after the last one that is prepared afterwards.
        as_of: Nothing that came on this day or later is known, clicks included.
        new: Days that no table has yet.
        changed: Open days of which the logs say something new.
        late: By domain, closed days of which they do.
        rest: Whether the logs have days from `until` on.
    """

    since: dt.date | None
    until: dt.date
    as_of: dt.date
    new: tuple[dt.date, ...]
    changed: tuple[dt.date, ...] = ()
    late: dict[str, tuple[dt.date, ...]] = field(default_factory=dict)
    rest: bool = False

    def digest(self, found: Iterable[Ingest]) -> str:
        """SHA-256 of the days and of the files that they are read from."""
        files = sorted({(log.domain, fact.file, fact.stamp) for log in found for fact in log.facts})
        return hashlib.sha256(json.dumps([self.since, self.until, files], default=str).encode()).hexdigest()


@dataclass
class PrepareSummary:
    """What a preparation did.

    Attributes:
        since: First day written; None where nothing was new.
        until: The day after the last one that is prepared now.
        days: New days.
        changed: Days that were prepared before and written anew.
        rows: Samples written, by domain.
        quarantined: Rows put aside.
        tokens: Tokens admitted to vocabularies.
        versions: Version of each table now.
        seconds: Time of each stage.
    """

    since: dt.date | None = None
    until: dt.date | None = None
    days: int = 0
    changed: int = 0
    rows: dict[str, int] = field(default_factory=lambda: dict.fromkeys(DOMAINS, 0))
    quarantined: int = 0
    tokens: int = 0
    versions: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


def make_plan(
    found: Mapping[str, Ingest],
    known: Mapping[str, tuple[Fact, ...]],
    *,
    done: dt.date | None,
    closed: dt.date | None,
    until: dt.date | None,
    ripening: Mapping[str, int] = MappingProxyType({}),
) -> Plan | None:
    """Compare what the logs hold with what they held.

    Args:
        found: What each domain's log holds now.
        known: What it held at the last preparation.
        done: The day after the last prepared one.
        closed: Days before this one never change any more.
        until: First day to leave out; None: all days. Days that no log has come to are not prepared, whatever is asked; labels
            may ripen on them.
        ripening: Domains whose labels come from a second log, so that their rows alone do not tell what has changed, and how
            many days a click may come after its impression's.

    Returns:
        The plan; None where no log has a good row of any day and nothing was ever prepared.
    """
    days = sorted({day for log in found.values() for day in log.days})
    newest = days[-1] + _DAY if days else None
    end = newest if until is None or newest is None else min(until, newest)
    if done is not None:
        end = max(done, end or done)
    if end is None:
        return None
    new = tuple(day for day in days if (done is None or day >= done) and day < end)
    changed, late = set(), {}
    for domain, log in found.items():
        before = days_of(known.get(domain, ()))
        # After a preparation that was broken off, days may be closed before all tables have them.
        other = [day for day, now in log.days.items() if day >= (done or day) or now != before.get(day, Day())]
        late[domain] = tuple(sorted(day for day in other if closed is not None and day < closed))
        if done is not None and closed is not None:
            asked = log.days if domain in ripening else other
            changed |= {day for day in asked if closed <= day < done}
    written = sorted({*new, *changed})
    return Plan(
        since=written[0] if written else None,
        until=end,
        as_of=max(end, min(until or end, (newest or end) + max(ripening.values(), default=0) * _DAY)),
        new=new,
        changed=tuple(sorted(changed)),
        late={domain: days for domain, days in late.items() if days},
        rest=bool(days) and days[-1] >= end,
    )
