"""The same transformations in DuckDB, run by an interpreter that has it; the package does not.

Written for one process on one machine: no Spark, no tables that two readers share, no even files.
"""

import json
import sys
import time
from pathlib import Path

import duckdb

DOMAINS = {"natural": "natural", "ad": "ads"}
FIELDS = ("user_id", "item_id", "category", "brand", "device", "user_region")
NUMBERS = ("price", "item_age")


def main() -> None:
    """`etl_duckdb.py LOG OUT MEMORY`: prepare LOG into OUT with at most so much memory (`2GB`)."""
    log, out, memory = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    out.mkdir(parents=True)
    base = duckdb.connect(str(out / "work.duckdb"))
    base.execute(
        f"SET memory_limit = '{memory}'; SET TimeZone = 'UTC'; SET threads = 2; SET preserve_insertion_order = false"
    )
    print("ready", flush=True)
    seconds: dict[str, float] = {}
    started = time.perf_counter()
    for domain, folder in DOMAINS.items():
        base.execute(f"""
            CREATE TABLE {domain}_rows AS SELECT * EXCLUDE (nth) FROM (
              SELECT *, row_number() OVER (PARTITION BY event_id ORDER BY event_time, label DESC, user_id, item_id) AS nth
              FROM (
                SELECT event_id::VARCHAR AS event_id, user_id::VARCHAR AS user_id, item_id::VARCHAR AS item_id,
                  event_time::TIMESTAMP AS event_time, (event_time::TIMESTAMP)::DATE AS event_date, click::INT AS label,
                  category::VARCHAR AS category, brand::VARCHAR AS brand, device::VARCHAR AS device,
                  user_region::VARCHAR AS user_region, position::DOUBLE AS position, price::DOUBLE AS price,
                  item_age::DOUBLE AS item_age
                FROM read_parquet('{log / folder}/**/*.parquet'))
              WHERE event_id <> '' AND user_id <> '' AND item_id <> '' AND event_time IS NOT NULL AND label IN (0, 1))
            WHERE nth = 1""")
    seconds["impressions"] = time.perf_counter() - started
    started = time.perf_counter()
    both = " UNION ALL ".join(
        f"SELECT '{field}' AS field, {field} AS token, event_date FROM {domain}_rows"
        for domain in DOMAINS
        for field in FIELDS
    )
    base.execute(f"""
        CREATE TABLE vocabulary AS
        SELECT field, token, 2 + row_number() OVER (PARTITION BY field ORDER BY admitted, token) AS id, admitted FROM (
          SELECT field, token, event_date AS admitted FROM (
            SELECT *, sum(n) OVER (PARTITION BY field, token ORDER BY event_date) AS total FROM (
              SELECT field, token, event_date, count(*) AS n FROM ({both}) WHERE token <> '' GROUP BY ALL))
          WHERE total >= 2 AND total - n < 2)""")
    seconds["vocabulary"] = time.perf_counter() - started
    for domain in DOMAINS:
        started = time.perf_counter()
        base.execute(
            f"COPY ({samples(domain)}) TO '{out}/{domain}_samples' (FORMAT parquet, PARTITION_BY (event_date))"
        )
        seconds[f"{domain}_samples"] = time.perf_counter() - started
    print(json.dumps({"seconds": seconds}), flush=True)


def samples(domain: str) -> str:
    """Encoded rows with the last clicks before each."""
    joins = " ".join(
        f"LEFT JOIN (SELECT * FROM vocabulary WHERE field = '{f}') v_{f} ON v_{f}.token = s.{f}" for f in FIELDS
    )
    ids = ", ".join(
        f"CASE WHEN coalesce(s.{f}, '') = '' THEN 1 WHEN v_{f}.admitted <= s.event_date THEN v_{f}.id ELSE 2 END::BIGINT AS {f}"
        for f in FIELDS
    )
    reached = " + ".join(f"(s.position >= {boundary})::INT" for boundary in (1, 2, 3, 5, 8))
    numbers = ", ".join(f"coalesce(sign(s.{n}) * ln(1 + abs(s.{n})), 0)::FLOAT AS {n}" for n in NUMBERS)
    clicks = " UNION ALL ".join(
        f"SELECT event_id, user_id, item_id, event_time FROM {name}_rows WHERE label = 1" for name in DOMAINS
    )
    listed = """[CASE WHEN c.admitted <= s.event_date THEN c.id ELSE 2 END
        FOR c IN list_reverse([c FOR c IN coalesce(h.clicks, []) IF c.at < s.event_time])[:20]]"""
    return f"""
        SELECT s.event_id, s.user_id AS user, s.event_date, (s.event_date - DATE '1970-01-01')::INT AS day,
          s.label::FLOAT AS label, 1::FLOAT AS weight, {ids},
          CASE WHEN s.position IS NULL THEN 1 ELSE 2 + {reached} END::BIGINT AS position, {numbers},
          (2 + hour(s.event_time))::BIGINT AS hour, (1 + isodow(s.event_date))::BIGINT AS weekday,
          list_resize({listed}, 20, 0)::BIGINT[] AS clicked_items
        FROM {domain}_rows s {joins}
        LEFT JOIN (
          SELECT user_id, list({{'at': event_time, 'id': v.id, 'admitted': v.admitted}} ORDER BY event_time, event_id) AS clicks
          FROM ({clicks}) LEFT JOIN (SELECT * FROM vocabulary WHERE field = 'item_id') v ON v.token = item_id
          GROUP BY user_id) h
        ON h.user_id = s.user_id
        ORDER BY s.event_date, hash(s.event_id)"""


if __name__ == "__main__":
    main()
