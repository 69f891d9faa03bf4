"""The peer of app_usage.rs: DuckDB runs the very same report files on the very same lake.

    pip install duckdb deltalake pyarrow
    python duckdb_peer.py DIR [--threads 2]

DIR is $TODOKE_BENCH_DIR of the benchmark. Prints the least and the median time of each variant, and
whether the figures are the same as those the benchmark left in DIR.
"""

import argparse
import datetime as dt
import decimal
import glob
import json
import os
import re
import statistics
import time

import duckdb
import pyarrow as pa
from deltalake import DeltaTable

HERE = os.path.dirname(os.path.abspath(__file__))
FIRST, LAST = dt.date(2025, 4, 1), dt.date(2026, 3, 31)
DIMENSIONS = "day week month platform app_version role screen_id error_kind message_type".split()
PROVENANCE = {"period_from", "period_to", "snapshot_id", "created_at"}


def sections(path):
    found = []
    for line in open(path, encoding="utf-8"):
        if line.startswith("-- section: "):
            found.append({"name": line[12:].strip(), "sql": "", "when": [], "unless": [], "final": False})
        elif found:
            found[-1]["sql"] += line
            directive = re.match(r"-- (when|unless): (.*)", line)
            if directive:
                found[-1][directive[1]] = [name.strip() for name in directive[2].split(",")]
            found[-1]["final"] |= line.strip() == "-- final"
    found[-1]["final"] = True
    return found


def literal(value):
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    return f"DATE '{value}'" if isinstance(value, dt.date) else f"'{value}'"


def month_end(day):
    return (day.replace(day=28) + dt.timedelta(4)).replace(day=1) - dt.timedelta(1)


def parameters(by):
    later = LAST.month - 1 + 11
    return {f"by_{name}": name in by for name in DIMENSIONS} | {
        "from": FIRST,
        "to": LAST,
        "horizon": LAST,
        "window_from": min(FIRST - dt.timedelta(29), FIRST - dt.timedelta(FIRST.weekday())),
        "active_to": max(month_end(LAST), LAST + dt.timedelta(6 - LAST.weekday())),
        "return_to": month_end(dt.date(LAST.year + later // 12, later % 12 + 1, 1)),
    }


def open_lake(folder, threads):
    lake = duckdb.connect()
    lake.execute(f"SET threads = {threads}")
    lake.execute("SET TimeZone = 'UTC'")
    for name, factor, places in [("percent", 100, 1), ("quotient_1", 1, 1), ("quotient_2", 1, 2)]:
        units = 10**places * factor
        lake.execute(
            f"CREATE MACRO {name}(n, d) AS CASE WHEN d > 0 THEN "
            f"CAST(floor((CAST({2 * units} AS DECIMAL(38, 1)) * n + d) / (2 * d)) / {10**places} AS DECIMAL(18, {places})) END"
        )
    for group in glob.glob(os.path.join(folder, "lake", "*", "_delta_log")):
        table = DeltaTable(os.path.dirname(group))
        name = os.path.basename(os.path.dirname(group))
        files = table.file_uris()
        if files:
            quoted = ", ".join("'" + f.removeprefix("file://") + "'" for f in files)
            lake.execute(
                f"CREATE VIEW events_{name} AS SELECT * REPLACE (CAST(jst_date AS DATE) AS jst_date) "
                f"FROM read_parquet([{quoted}], hive_partitioning = true, union_by_name = true)"
            )
        else:
            empty = pa.Table.from_batches([], pa.schema(table.schema().to_arrow()))
            lake.register("empty", empty)
            lake.execute(f"CREATE TABLE events_{name} AS SELECT * FROM empty")
            lake.unregister("empty")
    lake.execute(
        "CREATE TABLE calendar AS SELECT CAST(d AS DATE) AS jst_date, strftime(d, '%Y-%m') AS month, "
        "CAST(date_trunc('week', d) AS DATE) AS iso_week_start FROM generate_series(DATE '2015-01-01', DATE '2045-12-31', INTERVAL 1 DAY) AS s(d)"
    )
    return lake


def report(lake, by):
    values, made = parameters(by), []
    for section in sections(os.path.join(HERE, "..", "reports", "app_usage.sql")):
        if (section["when"] and not set(section["when"]) & set(by)) or set(section["unless"]) & set(by):
            continue
        sql = re.sub(r"\$(\w+)", lambda name: literal(values[name[1]]), section["sql"])
        if section["final"]:
            result = lake.execute(sql)
            rows = [dict(zip([c[0] for c in result.description], row)) for row in result.fetchall()]
            break
        lake.execute(f"CREATE TEMP TABLE {section['name']} AS {sql}")
        made.append(section["name"])
    for name in made:
        lake.execute(f"DROP TABLE {name}")
    return rows


def plain(value):
    return float(value) if isinstance(value, decimal.Decimal) else value


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("dir")
    arguments.add_argument("--threads", type=int, default=2)
    arguments.add_argument("--runs", type=int, default=7)
    arguments = arguments.parse_args()
    lake = open_lake(arguments.dir, arguments.threads)
    for by in [[], ["day"], ["month", "platform"]]:
        times = []
        for _ in range(arguments.runs):
            start = time.perf_counter()
            rows = report(lake, by)
            times.append(time.perf_counter() - start)
        ours = json.load(open(os.path.join(arguments.dir, f"figures_{','.join(by) or 'total'}.json")))
        names = [column["name"] for column in ours["columns"]]
        ours = [{n: v for n, v in zip(names, row) if n not in PROVENANCE} for row in ours["rows"]]
        theirs = [{n: plain(row[n]) for n in names if n not in PROVENANCE} for row in rows]
        same = "same figures" if ours == theirs else "FIGURES DIFFER"
        print(f"R05 by {by}: least {min(times) * 1000:.0f}ms, median {statistics.median(times) * 1000:.0f}ms, {same}")


if __name__ == "__main__":
    main()
