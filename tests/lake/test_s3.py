"""Jobs on an object store."""

import os
import signal
import subprocess
import time

import duckdb
import pyarrow.dataset as ds
import pytest
from pyarrow.fs import S3FileSystem

from conftest import LAKEFOLD, ROWS, job, run


def s3_job(bucket, *more):
    return job(f"s3://{bucket}/in/", f"s3://{bucket}/out/", f"s3://{bucket}/model.parquet", *more)


def test_the_same_files_as_on_a_local_disk(lake, reference, s3):
    bucket = s3.bucket(lake)
    done = run(*s3_job(bucket), environment=s3.environment())
    assert f"{2 * ROWS:,} rows in 24 chunks" in done.stderr
    assert s3.visible(bucket) == reference
    # From the store to the disk and back, it is still the same job.
    again = run(*job(lake / "in", f"s3://{bucket}/mixed/", lake / "model.parquet"), environment=s3.environment())
    assert "24 chunks written" in again.stderr
    assert s3.visible(bucket, "mixed/") == reference
    leftover = [n for n in s3.objects(bucket, "out/_lakefold/") if n not in ("manifest.json", "job.json")]
    assert leftover == []
    done = run(*s3_job(bucket), environment=s3.environment())
    assert "24 chunks were written before" in done.stderr


def test_readers_of_the_store(lake, reference, s3):
    bucket = s3.bucket(lake)
    run(*s3_job(bucket), environment=s3.environment())
    host = s3.url.removeprefix("http://")
    files = S3FileSystem(access_key="k", secret_key="s", endpoint_override=host, scheme="http", region="us-east-1")
    table = ds.dataset(f"{bucket}/out", filesystem=files).to_table()
    assert table.num_rows == 2 * ROWS
    assert table["embedding"].null_count == 0


def test_options_and_globs(lake, reference, s3):
    bucket = s3.bucket(lake)
    options = {"endpoint": s3.url, "allow_http": "true", "access_key_id": "k", "secret_access_key": "s", "region": "us-east-1"}
    flags = [f for k, v in options.items() for f in ("--option", f"{k}={v}")]
    arguments = job(f"s3://{bucket}/in/a*.parquet", f"s3://{bucket}/out", lake / "model.parquet", *flags)
    run(*arguments)
    wanted = {n: c for n, c in reference.items() if n.startswith("a.")}
    assert s3.visible(bucket) == wanted


def test_sql_reads_and_writes_urls(lake, reference, s3):
    bucket = s3.bucket(lake)

    def sql(statement):
        return run("sql", "--format", "csv", "-c", statement, environment=s3.environment()).stdout.splitlines()

    for path in ("in/a.parquet", "in/", "in/[ab].parquet"):
        rows = ROWS if path == "in/a.parquet" else 2 * ROWS
        assert sql(f"SELECT count(*), max(id) FROM 's3://{bucket}/{path}'")[1] == f"{rows},{rows - 1}"
    source = f"(SELECT id, lle_transform(v, 's3://{bucket}/model.parquet') AS e FROM 's3://{bucket}/in/')"
    sql(f"COPY {source} TO 's3://{bucket}/copied/' STORED AS PARQUET")
    joined = f"'s3://{bucket}/copied/' AS s JOIN {source} AS o USING (id) WHERE s.e = o.e"
    assert sql(f"SELECT count(*) FROM {joined}")[1] == str(2 * ROWS)
    rows, settings = f"(SELECT * FROM 's3://{bucket}/in/a.parquet')", "n_neighbors => 8, reg => 0.1, n_landmarks => 60"
    assert sql(f"SELECT rows FROM lle_fit({rows}, v, {settings}, model => 's3://{bucket}/new.parquet')")[1] == str(ROWS)
    assert s3.content(bucket, "new.parquet")[:4] == b"PAR1"


def test_sql_says_what_is_missing(lake, s3):
    bucket = s3.bucket(lake)
    for path, message in [
        (f"s3://{bucket}/in/c.parquet", "there are: 'a.parquet', 'b.parquet'"),
        ("ftp://host/x.parquet", "no store is known for 'ftp://'"),
    ]:
        done = run("sql", "-c", f"SELECT * FROM '{path}'", environment=s3.environment(), code=1)
        assert message in done.stderr


def test_over_http(lake, reference, s3, tmp_path):
    bucket = s3.bucket(lake)
    s3.client.put_bucket_acl(Bucket=bucket, ACL="public-read-write")
    for key in ("in/a.parquet",):
        s3.client.put_object_acl(Bucket=bucket, Key=key, ACL="public-read")
    run(*job(f"{s3.url}/{bucket}/in/a.parquet", tmp_path / "out", lake / "model.parquet"))
    written = {f.name: f.read_bytes() for f in (tmp_path / "out").glob("*.parquet")}
    assert written == {n: c for n, c in reference.items() if n.startswith("a.")}


@pytest.mark.parametrize("fault", [500, 503, "timeout"])
def test_faults_that_pass(lake, reference, s3, fault):
    bucket = s3.bucket(lake)
    # One in ten requests; time-outs take their time.
    s3.proxy.fail(fault, share=0.1 if fault != "timeout" else 0.03)
    run(*s3_job(bucket, "--option", "timeout=1s"), environment=s3.environment(proxied=True))
    assert s3.proxy.faults > 0
    assert s3.visible(bucket) == reference


@pytest.mark.parametrize("fault", [500, 503, "timeout"])
def test_faults_that_stay(lake, reference, s3, fault):
    bucket = s3.bucket(lake)
    s3.proxy.fail(fault, after=90)
    limits = ["--option", "max_retries=2", "--option", "retry_timeout=4", "--option", "timeout=1s"]
    done = run(*s3_job(bucket, *limits), environment=s3.environment(proxied=True), code=1)
    assert "error: " in done.stderr
    partial = s3.visible(bucket)
    assert 0 < len(partial) < len(reference)
    assert all(reference[n] == c for n, c in partial.items())
    s3.proxy.heal()
    run(*s3_job(bucket, *limits), environment=s3.environment(proxied=True))
    assert s3.visible(bucket) == reference


def test_killed_and_resumed(lake, reference, s3):
    bucket = s3.bucket(lake)
    for chunks in (1, 9):
        arguments = [LAKEFOLD, *map(str, s3_job(bucket, "--threads", 1))]
        process = subprocess.Popen(arguments, env={**os.environ, **s3.environment()}, stderr=subprocess.DEVNULL)
        while len(s3.visible(bucket)) < chunks:
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
        partial = s3.visible(bucket)
        assert all(reference[n] == c for n, c in partial.items())
    # The lease of the dead expires.
    done = run(*s3_job(bucket), environment=s3.environment())
    assert "waiting up to 20 s" in done.stderr and "were written before" in done.stderr
    assert s3.visible(bucket) == reference


def test_two_jobs_on_one_output(lake, reference, s3):
    bucket = s3.bucket(lake)
    # Slow enough to be overtaken: every tenth request hangs until its time-out.
    s3.proxy.fail("timeout", share=0.1, after=40)
    arguments = [LAKEFOLD, *map(str, s3_job(bucket, "--threads", 1, "--option", "timeout=2s"))]
    first = subprocess.Popen(arguments, env={**os.environ, **s3.environment(proxied=True)}, stderr=subprocess.PIPE, text=True)
    while not s3.visible(bucket):
        assert first.poll() is None
        time.sleep(0.02)
    done = run(*s3_job(bucket), environment=s3.environment(), code=1)
    assert f"another job (process {first.pid} of " in done.stderr
    _, text = first.communicate(timeout=200)
    assert first.returncode == 0, text
    assert s3.visible(bucket) == reference


def test_an_input_that_changes_during_the_run(lake, reference, s3):
    bucket = s3.bucket(lake)
    arguments = [LAKEFOLD, *map(str, s3_job(bucket, "--threads", 1))]
    process = subprocess.Popen(arguments, env={**os.environ, **s3.environment()}, stderr=subprocess.PIPE, text=True)
    while not s3.visible(bucket):
        assert process.poll() is None
        time.sleep(0.02)
    s3.client.put_object(Bucket=bucket, Key="in/b.parquet", Body=(lake / "in" / "a.parquet").read_bytes())
    _, text = process.communicate(timeout=200)
    assert process.returncode == 1
    assert "b.parquet' changed while the job read it" in text
    # The changed file's new rows, once they are asked for.
    run(*s3_job(bucket, "--incremental"), environment=s3.environment())
    assert len(s3.visible(bucket)) == len(reference)


def test_embed_on_the_store(lake, s3):
    bucket = s3.bucket(lake)
    run("embed", f"s3://{bucket}/in/", f"s3://{bucket}/out/", "--column", "v", "--n-neighbors", 8, "--reg", 0.1,
        "--solver", "landmarks", "--n-landmarks", 60, "--chunk-rows", 1000, environment=s3.environment())
    run("embed", lake / "in", lake / "embedded", "--column", "v", "--n-neighbors", 8, "--reg", 0.1,
        "--solver", "landmarks", "--n-landmarks", 60, "--chunk-rows", 1000)
    local = {f.name: f.read_bytes() for f in (lake / "embedded").glob("*.parquet")}
    assert s3.visible(bucket) == local
    rows = duckdb.connect().execute(f"SELECT count(embedding) FROM '{lake}/embedded/*.parquet'").fetchall()
    assert rows == [(2 * ROWS,)]
