"""The peer of ingest.rs: NDJSON to one zstd Parquet file with two threads; prints the seconds it took."""

import sys
import time

import duckdb

source, target = sys.argv[1:]
db = duckdb.connect()
db.execute("SET threads = 2")
# It would be on standard output, among the figures.
db.execute("SET enable_progress_bar = false")
begun = time.monotonic()
db.execute(f"COPY (SELECT * FROM read_ndjson('{source}')) TO '{target}' (FORMAT parquet, COMPRESSION zstd)")
print(time.monotonic() - begun)
