"""HNSW indexes beside tables in an object store."""

import json
import signal
import subprocess
import time

import pytest

from conftest import LAKEFOLD, ROWS, run

LOCK = "in/.lakefold/v.hnsw.lock"
FILE = "in/.lakefold/v.hnsw"
NEAREST = "SELECT array_distance(v, [500.0, 100.0, 900.0]) AS d FROM 's3://{}/in/' ORDER BY d LIMIT 5"


@pytest.fixture
def table(lake, s3):
    """A bucket with the lake's files, and commands on it."""
    bucket = s3.bucket(lake)

    def index(command, *more, **options):
        return run("index", command, f"s3://{bucket}/in/", *more, environment=s3.environment(), **options)

    def sql(*statements, format="csv"):
        statements = [part for s in statements for part in ("-c", s)]
        return run("sql", "--format", format, *statements, environment=s3.environment())

    return bucket, index, sql


def test_built_opened_and_searched(table, s3):
    bucket, index, sql = table
    index("build", "--column", "v", "--id-column", "id", "--m", 8, "--storage", "int8")
    assert s3.content(bucket, LOCK) is None
    described = json.loads(index("info", "--format", "json").stdout)
    assert (described["valid"], described["rows"], described["storage"]) == (True, 2 * ROWS, "int8")
    checks = index("verify").stdout
    assert checks.count("ok      ") == 7, checks
    nearest = NEAREST.format(bucket)
    assert "index=v" in sql(f"EXPLAIN {nearest}").stdout
    by_index = sql(nearest).stdout
    assert by_index == sql("SET hnsw.enabled = false", nearest).stdout
    found = json.loads(index("search", "--vector", "[500, 100, 900]", "--k", 5, "--format", "json").stdout)
    assert [str(pair["distance"]) for pair in found] == by_index.split()[1:]
    ids = ", ".join(str(pair["id"]) for pair in found)
    same = f"SELECT count(*) FROM (SELECT * FROM 's3://{bucket}/in/' WHERE id IN ({ids})) AS n WHERE array_distance(v, [500.0, 100.0, 900.0]) = "
    assert sql(f"{same}{found[0]['distance']}").stdout.split()[1:] == ["5"]


def test_one_builder_at_a_time(table, s3):
    bucket, index, _ = table
    s3.client.put_object(Bucket=bucket, Key=LOCK, Body=b"process 7 of elsewhere, since 1.000000000")
    refused = index("build", "--column", "v", code=1).stderr
    assert "another builder (process 7 of elsewhere, since 1.000000000)" in refused
    assert f"remove the lock that it left, 's3://{bucket}/{LOCK}'" in refused
    assert s3.content(bucket, FILE) is None
    s3.client.delete_object(Bucket=bucket, Key=LOCK)
    command = [LAKEFOLD, "index", "build", f"s3://{bucket}/in/", "--column", "v", "--replace"]
    environment = s3.environment()
    both = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) for _ in range(2)]
    said = [builder.communicate(timeout=300)[1] for builder in both]
    # The second one either meets the first, or comes when it is done.
    for builder, text in zip(both, said):
        assert builder.returncode == 0 or "another builder (process " in text, text
    assert 0 in [builder.returncode for builder in both]
    assert s3.content(bucket, LOCK) is None
    assert "FAILED" not in index("verify").stdout


def test_a_killed_builder_leaves_its_lock_and_the_old_index(table, s3):
    bucket, index, sql = table
    index("build", "--column", "v", "--m", 8)
    before = s3.content(bucket, FILE)
    command = [LAKEFOLD, "index", "build", f"s3://{bucket}/in/", "--column", "v", "--m", "64", "--ef-construction", "2000", "--replace"]
    builder = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=s3.environment())
    while s3.content(bucket, LOCK) is None:
        assert builder.poll() is None
        time.sleep(0.02)
    builder.send_signal(signal.SIGKILL)
    builder.wait()
    assert s3.content(bucket, FILE) == before
    assert s3.content(bucket, LOCK) is not None
    assert "index=v" in sql(f"EXPLAIN {NEAREST.format(bucket)}").stdout
    assert f"another builder (process {builder.pid} of " in index("build", "--column", "v", "--replace", code=1).stderr
    s3.client.delete_object(Bucket=bucket, Key=LOCK)
    index("build", "--column", "v", "--m", 8, "--replace")
    assert s3.content(bucket, FILE) == before
    assert s3.content(bucket, LOCK) is None


def test_a_table_that_changed_has_a_stale_index(table, s3, lake):
    bucket, index, sql = table
    index("build", "--column", "v", "--m", 8)
    s3.client.put_object(Bucket=bucket, Key="in/b.parquet", Body=(lake / "in" / "a.parquet").read_bytes())
    done = sql(NEAREST.format(bucket))
    assert f"'s3://{bucket}/in/b.parquet' has changed" in done.stderr
    assert "FAILED  sources" in index("verify", code=1).stdout
