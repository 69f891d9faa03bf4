"""Reads every table of a lake with three engines: engines.py LAKE prints one JSON object."""

import json
import sys
from pathlib import Path

import deltalake
import duckdb
import polars

lake = Path(sys.argv[1])
every = sorted(path.parent.name for path in lake.glob("*/_delta_log"))
# Tables of events have days, dimensions have none.
tables = [name for name in every if "jst_date" in deltalake.DeltaTable(str(lake / name)).schema().to_json()]
dimensions = [name for name in every if name not in tables]


def with_pyarrow(name: str) -> int:
    return deltalake.DeltaTable(str(lake / name)).to_pyarrow_table().num_rows


def with_polars(name: str) -> int:
    return polars.scan_delta(str(lake / name)).collect().height


def with_duckdb(name: str, values: str = "count(event_id), min(occurred_at)") -> int:
    files = deltalake.DeltaTable(str(lake / name)).file_uris()
    if not files:
        return 0
    paths = [file.removeprefix("file://") for file in files]
    query = f"SELECT count(*), {values} FROM read_parquet(?, hive_partitioning = true, union_by_name = true)"
    return duckdb.execute(query, [paths]).fetchone()[0]


app = polars.scan_delta(str(lake / "app")).group_by("municipality_code").agg(
    polars.col("event_id").n_unique().alias("ids"),
    polars.col("screen_id").drop_nulls().n_unique().alias("screens"),
    polars.col("dwell_ms").sum().alias("dwell_ms"),
)
print(
    json.dumps(
        {
            "deltalake_pyarrow": {name: with_pyarrow(name) for name in tables},
            "polars": {name: with_polars(name) for name in tables},
            "duckdb": {name: with_duckdb(name) for name in tables},
            "dimensions": {
                name: [with_pyarrow(name), with_polars(name), with_duckdb(name, "count(COLUMNS(*))")]
                for name in dimensions
            },
            "app": {row[0]: list(row[1:]) for row in app.collect().iter_rows()},
        }
    )
)
