"""The floor: what `prepare` does to a simulated log, written by hand in Spark SQL for that one log.

The same rows come out: clean impressions once each, the same vocabulary ids, the same encoded samples with the clicks
before each impression, in the same even files. There are no checks of the input beyond the ones that a row's
meaning needs, no resumption, no record of files, no constraints; tables are plain Parquet folders.
"""

import time
from pathlib import Path

from pyspark.sql import SparkSession

from benchmarks.etl_logs import BOUNDARIES, CLICKS, DOMAINS, ID_FIELDS, MIN_COUNT, NUMBERS

LANES = 4
EXTRA = ("category", "brand", "device", "user_region", "position", *NUMBERS)


def run(spark: SparkSession, log: Path, out: Path) -> dict[str, float]:
    """Write `impressions`, `vocabulary` and `samples` of both domains below `out`; gives the seconds of each stage."""
    seconds: dict[str, float] = {}
    started = time.perf_counter()
    for domain, folder in DOMAINS.items():
        spark.read.parquet(str(log / folder)).createOrReplaceTempView("log")
        rows = spark.sql(clean()).repartition("event_date").sortWithinPartitions("event_date")
        rows.write.partitionBy("event_date").parquet(str(out / f"{domain}_impressions"))
        spark.read.parquet(str(out / f"{domain}_impressions")).createOrReplaceTempView(f"{domain}_impressions")
    seconds["impressions"] = time.perf_counter() - started
    started = time.perf_counter()
    words = spark.sql(vocabulary()).repartition("field")
    words.write.partitionBy("field").parquet(str(out / "vocabulary"))
    spark.read.parquet(str(out / "vocabulary")).createOrReplaceTempView("vocabulary")
    seconds["vocabulary"] = time.perf_counter() - started
    for domain in DOMAINS:
        started = time.perf_counter()
        rows = spark.sql(samples(domain)).repartition(LANES, "event_date", "lane")
        rows = rows.sortWithinPartitions("event_date", "lane", "place").drop("lane", "place")
        rows.write.partitionBy("event_date").parquet(str(out / f"{domain}_samples"))
        seconds[f"{domain}_samples"] = time.perf_counter() - started
    return seconds


def clean() -> str:
    """Good rows of the view `log`, each event once."""
    text = ("category", "brand", "device", "user_region")
    casts = [f"cast({c} AS {'string' if c in text else 'double'}) AS {c}" for c in EXTRA]
    return f"""
        SELECT * EXCEPT (nth) FROM (
          SELECT *, row_number() OVER (
              PARTITION BY event_id ORDER BY event_time, label DESC, user_id, item_id, {", ".join(EXTRA)}) AS nth
          FROM (
            SELECT cast(event_id AS string) AS event_id, cast(user_id AS string) AS user_id,
              cast(item_id AS string) AS item_id, event_time, to_date(event_time) AS event_date,
              cast(click AS int) AS label, {", ".join(casts)}
            FROM log)
          WHERE event_id <> '' AND user_id <> '' AND item_id <> '' AND event_time IS NOT NULL AND label IN (0, 1))
        WHERE nth = 1"""


def vocabulary() -> str:
    """Tokens that have reached the minimum, with ids by day of admission and token."""
    pairs = ", ".join(f"'{name}', {column}" for name, column in ID_FIELDS.items())
    both = " UNION ALL ".join(
        f"SELECT stack({len(ID_FIELDS)}, {pairs}) AS (field, token), event_date FROM {domain}_impressions"
        for domain in DOMAINS
    )
    return f"""
        SELECT field, token, 2 + row_number() OVER (PARTITION BY field ORDER BY admitted, token) AS id,
          first_seen, admitted AS last_seen, count, admitted
        FROM (
          SELECT field, token, event_date AS admitted, first_seen, total AS count FROM (
            SELECT *, sum(n) OVER days AS total, first(event_date) OVER days AS first_seen FROM (
              SELECT field, token, event_date, count(*) AS n FROM ({both}) WHERE token <> ''
              GROUP BY field, token, event_date)
            WINDOW days AS (PARTITION BY field, token ORDER BY event_date))
          WHERE total >= {MIN_COUNT} AND total - n < {MIN_COUNT})"""


def samples(domain: str) -> str:
    """Encoded rows with the last clicks before each, dealt to lanes by a hash of the event."""
    joins, ids = [], []
    for name, column in ID_FIELDS.items():
        joins.append(
            f"LEFT JOIN (SELECT * FROM vocabulary WHERE field = '{name}') v_{name} ON v_{name}.token = s.{column}"
        )
        known = f"if(v_{name}.admitted <= s.event_date, v_{name}.id, 2)"
        ids.append(f"cast(if(s.{column} IS NULL OR s.{column} = '', 1, coalesce({known}, 2)) AS bigint) AS `{name}`")
    reached = " + ".join(f"if(s.position >= {boundary}, 1, 0)" for boundary in BOUNDARIES)
    numbers = [f"coalesce(cast(signum(s.{name}) * log1p(abs(s.{name})) AS float), 0f) AS {name}" for name in NUMBERS]
    clicks = " UNION ALL ".join(
        f"SELECT event_id, user_id, item_id, event_time FROM {name}_impressions WHERE label = 1" for name in DOMAINS
    )
    seen = "slice(reverse(filter(h.clicks, c -> c.at < s.event_time)), 1, 20)".replace("20", str(CLICKS))
    listed = f"transform({seen}, c -> if(c.admitted <= s.event_date, c.id, 2L))"
    none = f"array_repeat(0L, {CLICKS})"
    return f"""
        SELECT *, pmod(row_number() OVER (PARTITION BY event_date ORDER BY place, event_id) - 1, {LANES}) AS lane
        FROM (
          SELECT s.event_id, s.user_id AS user, s.event_date, unix_date(s.event_date) AS day,
            cast(s.label AS float) AS label, 1f AS weight, {", ".join(ids)},
            cast(if(s.position IS NULL, 1, 2 + {reached}) AS bigint) AS position, {", ".join(numbers)},
            cast(2 + hour(s.event_time) AS bigint) AS hour, cast(2 + weekday(s.event_date) AS bigint) AS weekday,
            slice(concat(coalesce({listed}, array()), {none}), 1, {CLICKS}) AS clicked_items, xxhash64(s.event_id) AS place
          FROM {domain}_impressions s {" ".join(joins)}
          LEFT JOIN (
            SELECT user_id, array_sort(collect_list(struct(event_time AS at, event_id, v.id, v.admitted))) AS clicks
            FROM ({clicks}) LEFT JOIN (SELECT * FROM vocabulary WHERE field = 'item_id') v ON v.token = item_id
            GROUP BY user_id) h
          ON h.user_id = s.user_id)"""
