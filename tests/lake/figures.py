"""Figures of R01 and R05 from the lake's files, by another engine and from the definitions, not from our SQL.

figures.py LAKE MUNICIPALITY FROM TO   (days, both included) prints one JSON object.
It finds a table's files as any reader of Delta Lake does: the newest checkpoint, then the commits after it.
"""

import json
import sys
from pathlib import Path

import duckdb

db = duckdb.connect()
db.execute("SET TimeZone = 'UTC'")


def live_files(table: Path) -> list[str]:
    """Paths of the table's data files as of its newest commit."""
    log = table / "_delta_log"
    files: dict[str, None] = {}
    version = -1
    pointer = log / "_last_checkpoint"
    if pointer.exists():
        version = json.loads(pointer.read_text())["version"]
        for part in sorted(log.glob(f"{version:020}.checkpoint*.parquet")):
            rows = db.execute("SELECT add.path FROM read_parquet(?) WHERE add IS NOT NULL", [str(part)]).fetchall()
            files.update(dict.fromkeys(path for (path,) in rows))
    for commit in sorted(log.glob("*.json")):
        if int(commit.stem) <= version:
            continue
        for line in commit.read_text().splitlines():
            action = json.loads(line)
            if "add" in action:
                files[action["add"]["path"]] = None
            elif "remove" in action:
                files.pop(action["remove"]["path"], None)
    return [str(table / path) for path in files]


def open_table(lake: Path, group: str) -> None:
    files = live_files(lake / group)
    if not files:
        raise SystemExit(f"{group}: no data")
    db.execute(
        f"CREATE VIEW {group} AS SELECT * FROM read_parquet({files!r}, hive_partitioning = true, union_by_name = true,"
        " hive_types = {'municipality_code': VARCHAR, 'jst_date': DATE})"
    )


def one(sql: str, **values) -> dict:
    cursor = db.execute(sql, values)
    return dict(zip([column[0] for column in cursor.description], cursor.fetchone()))


def statistics_simple(scope: dict) -> dict:
    inside = "municipality_code = $town AND jst_date BETWEEN $first AND $last"
    before = "municipality_code = $town AND jst_date < $first"
    # What each event does to a balance.
    delta = """SUM(CASE event_type
        WHEN 'coupon.distributed' THEN amount_yen
        WHEN 'coupon.used' THEN -amount_yen
        WHEN 'coupon.use_reversed' THEN amount_yen
        WHEN 'coupon.adjusted' THEN delta_yen
        WHEN 'coupon.expired' THEN -written_off_yen
        WHEN 'coupon.revoked' THEN -written_off_yen
        ELSE 0 END)"""
    figures = one(
        f"""SELECT
            SUM(amount_yen) FILTER (event_type = 'coupon.distributed') AS distributed_yen,
            SUM(delta_yen) FILTER (event_type = 'coupon.adjusted') AS adjusted_yen,
            COUNT(*) FILTER (event_type = 'coupon.used' AND purpose = 'service')
              - COUNT(*) FILTER (event_type = 'coupon.use_reversed' AND purpose = 'service') AS service_uses,
            SUM(amount_yen) FILTER (event_type = 'coupon.used')
              - COALESCE(SUM(amount_yen) FILTER (event_type = 'coupon.use_reversed'), 0) AS used_yen,
            COALESCE(SUM(amount_yen) FILTER (event_type = 'coupon.used' AND purpose = 'cancellation_fee'), 0)
              - COALESCE(SUM(amount_yen) FILTER (event_type = 'coupon.use_reversed' AND purpose = 'cancellation_fee'), 0)
              AS of_which_cancel_fee_yen,
            SUM(written_off_yen) FILTER (event_type = 'coupon.expired') AS expired_yen,
            SUM(written_off_yen) FILTER (event_type = 'coupon.revoked') AS revoked_yen
        FROM coupon WHERE {inside}""",
        **scope,
    )
    figures |= one(f"SELECT {delta} AS balance_start_yen FROM coupon WHERE {before}", town=scope["town"], first=scope["first"])
    figures |= one(
        f"SELECT {delta} AS balance_end_yen FROM coupon WHERE municipality_code = $town AND jst_date <= $last",
        town=scope["town"],
        last=scope["last"],
    )
    figures |= one(
        f"""SELECT COUNT(DISTINCT child_key) AS users FROM coupon u
        WHERE event_type = 'coupon.used' AND {inside} AND NOT EXISTS (
            SELECT 1 FROM coupon r WHERE r.event_type = 'coupon.use_reversed' AND r.use_id = u.use_id AND r.jst_date <= $last)""",
        **scope,
    )
    approved = f"event_type = 'application.decided' AND application_kind = 'coupon' AND decision = 'approved' AND {inside}"
    figures |= one(
        f"""SELECT COUNT(*) AS coupon_registrations,
            COUNT(DISTINCT guardian_key) AS coupon_guardians
        FROM (SELECT application_id FROM application WHERE {approved}) d
        JOIN (SELECT application_id, guardian_key FROM application WHERE event_type = 'application.submitted') s USING (application_id)""",
        **scope,
    )
    figures |= one(
        f"""SELECT COUNT(*) AS coupon_registrations_revoked FROM application
        WHERE event_type = 'application.decision_revoked' AND previous = 'approved' AND {inside}""",
        **scope,
    )
    return {name: int(value or 0) for name, value in figures.items()}


def app_usage(scope: dict) -> dict:
    """By day: active guardians, sessions, views, sessions with an error."""
    rows = db.execute(
        """SELECT CAST(jst_date AS VARCHAR),
            COUNT(DISTINCT guardian_key) FILTER (event_type = 'app.session_started' AND platform <> 'dashboard'),
            COUNT(DISTINCT session_id) FILTER (event_type = 'app.session_started'),
            COUNT(*) FILTER (event_type = 'app.screen_viewed')
        FROM app WHERE municipality_code = $town AND jst_date BETWEEN $first AND $last GROUP BY ALL ORDER BY 1""",
        scope,
    ).fetchall()
    return {day: {"dau": dau, "sessions": sessions, "screen_views": views} for day, dau, sessions, views in rows}


def main() -> None:
    lake, town, first, last = Path(sys.argv[1]), *sys.argv[2:5]
    for group in ("coupon", "application", "app"):
        open_table(lake, group)
    scope = {"town": town, "first": first, "last": last}
    print(json.dumps({"statistics_simple": statistics_simple(scope), "app_usage": app_usage(scope)}))


main()
