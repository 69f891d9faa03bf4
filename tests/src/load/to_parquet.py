"""The peer of ingest.rs and backfill.rs: NDJSON or Parquet to one zstd Parquet file with two threads.

Prints the seconds it took.
"""

import sys
import time

import duckdb

source, target = sys.argv[1:]
reader = "read_parquet" if source.endswith(".parquet") else "read_ndjson"
db = duckdb.connect()
db.execute("SET threads = 2")
# It would be on standard output, among the figures.
db.execute("SET enable_progress_bar = false")
begun = time.monotonic()
db.execute(f"COPY (SELECT * FROM {reader}('{source}')) TO '{target}' (FORMAT parquet, COMPRESSION zstd)")
print(time.monotonic() - begun)
