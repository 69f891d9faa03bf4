"""The peer of compaction.rs: DuckDB writes the same rows to one zstd Parquet file.

    pip install duckdb deltalake
    python duckdb_peer.py DIR

DIR is $TODOKE_BENCH_DIR of the benchmark. Prints the bytes per row of both, and DuckDB's time with two threads.
"""

import os
import sys
import time

import duckdb
from deltalake import DeltaTable

folder = sys.argv[1]
files = [file.removeprefix("file://") for file in DeltaTable(os.path.join(folder, "app")).file_uris()]
target = os.path.join(folder, "peer.parquet")
db = duckdb.connect()
db.execute("SET threads = 2")
# The columns inside the files: what a folder's name says is in neither.
rows = f"SELECT * FROM read_parquet({files!r}, hive_partitioning = false, union_by_name = true)"
n_rows = db.execute(f"SELECT count(*) FROM ({rows})").fetchone()[0]
begun = time.monotonic()
db.execute(f"COPY ({rows}) TO '{target}' (FORMAT parquet, COMPRESSION zstd)")
seconds = time.monotonic() - begun
ours, theirs = sum(map(os.path.getsize, files)), os.path.getsize(target)
print(f"DuckDB: {n_rows} rows in {seconds:.2f} s, {n_rows / seconds:.0f} rows/s")
print(f"bytes per row: ours {ours / n_rows:.2f}, DuckDB's {theirs / n_rows:.2f}, ratio {ours / theirs:.2f}")
