"""Delta Lake tables, written by jobs and read by others, and the other way round."""

import datetime
import decimal
import json
import os
import pathlib
import subprocess
import threading
import time

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from conftest import CHUNK, LAKEFOLD, ROWS, job, run, vectors

DELTA = ("--format", "delta")

def read(table):
    """A table as pyarrow has it, in the order of its ids."""
    return pa.table(DeltaTable(str(table)).to_pyarrow_table()).sort_by("id")


@pytest.fixture
def table(lake, tmp_path):
    run(*job(lake / "in", tmp_path / "t", lake / "model.parquet", *DELTA))
    return tmp_path / "t"


def test_other_programs_read_it(lake, reference, table):
    delta = DeltaTable(str(table))
    assert delta.version() == 0
    assert len(delta.file_uris()) == len(reference)
    fields = {field.name: json.loads(field.type.to_json()) for field in delta.schema().fields}
    array = {"type": "array", "elementType": "float", "containsNull": True}
    assert fields == {"id": "long", "v": array, "embedding": array}
    rows = read(table)
    wanted = pa.concat_tables(pq.read_table(f) for f in sorted((lake / "reference").glob("*.parquet"))).sort_by("id")
    assert rows["id"].equals(wanted["id"])
    for name in ("v", "embedding"):
        assert rows[name].to_pylist() == wanted[name].to_pylist()
    # The same bytes as of a plain output; pyarrow still sees vectors of fixed length in them.
    contents = sorted(pathlib.Path(file).read_bytes() for file in delta.file_uris())
    assert contents == sorted(reference.values())
    assert pq.read_schema(delta.file_uris()[0]).field("embedding").type == pa.list_(pa.field("item", pa.float32()), 2)
    dataset = delta.to_pyarrow_dataset()
    count = duckdb.sql("SELECT count(*), sum(id), count(embedding) FROM dataset").fetchall()
    assert count == [(2 * ROWS, sum(range(2 * ROWS)), 2 * ROWS)]
    files = delta.file_uris()
    assert duckdb.read_parquet(files).aggregate("count(*)").fetchall() == [(2 * ROWS,)]


def test_statistics_let_readers_skip_files(table):
    delta = DeltaTable(str(table))
    actions = pa.table(delta.get_add_actions(flatten=True))
    assert pc.sum(actions["num_records"]).as_py() == 2 * ROWS
    spans = sorted(zip(actions["min.id"].to_pylist(), actions["max.id"].to_pylist()))
    assert spans == [(i, i + CHUNK - 1) for i in range(0, 2 * ROWS, CHUNK)]
    assert set(actions["null_count.id"].to_pylist()) == {0}
    fragments = delta.to_pyarrow_dataset().get_fragments(pc.field("id") == 777)
    assert len(list(fragments)) == 1
    rows = delta.to_pyarrow_table(filters=[("id", ">=", 5990)])
    assert rows.num_rows == 2 * ROWS - 5990


def test_history_tells_the_model(lake, table):
    (entry,) = DeltaTable(str(table)).history()
    said = json.loads(entry["userMetadata"])
    (model,) = said["lakefold.models"]
    assert len(model) == 64 and model in said["lakefold.parameters"]["select"]
    assert entry["operation"] == "WRITE"
    assert entry["operationMetrics"]["numOutputRows"] == str(2 * ROWS)
    assert DeltaTable(str(table)).transaction_version("lakefold") == 1


def test_every_type_that_delta_lake_has(lake, tmp_path):
    n = 900
    at = datetime.datetime(2026, 11, 23, 12, 30, 0, 123456, tzinfo=datetime.timezone.utc)
    columns = {
        "id": pa.array(range(n)),
        "i8": pa.array([i % 100 - 50 for i in range(n)], pa.int8()),
        "i16": pa.array([None if i % 9 == 0 else i for i in range(n)], pa.int16()),
        "i32": pa.array([-i for i in range(n)], pa.int32()),
        "f32": pa.array([i / 7 for i in range(n)], pa.float32()),
        "f64": pa.array([float("nan") if i == 5 else i / 3 for i in range(n)]),
        "flag": pa.array([i % 2 == 0 for i in range(n)]),
        "text": pa.array([f"ü{i:04}" * 40 for i in range(n)], pa.large_string()),
        "section": pa.array([["x", "y", None][i % 3] for i in range(n)]).dictionary_encode(),
        "bytes": pa.array([bytes([i % 256]) for i in range(n)], pa.binary()),
        "at": pa.array([at + datetime.timedelta(seconds=i) for i in range(n)], pa.timestamp("us", "Europe/Berlin")),
        "ms": pa.array([at + datetime.timedelta(seconds=i) for i in range(n)], pa.timestamp("ms", "UTC")),
        "local": pa.array([at.replace(tzinfo=None) + datetime.timedelta(days=i) for i in range(n)], pa.timestamp("us")),
        "day": pa.array([datetime.date(1960, 1, 1) + datetime.timedelta(days=i) for i in range(n)]),
        "price": pa.array([decimal.Decimal(i) / 100 for i in range(n)], pa.decimal128(12, 2)),
        "wide": pa.array([decimal.Decimal(10) ** 30 + i for i in range(n)], pa.decimal128(38, 3)),
        "nested": pa.array([{"a": i, "b": ["z"] * (i % 3)} for i in range(n)]),
        "map": pa.array([[("k", i)] for i in range(n)], pa.map_(pa.string(), pa.int32())),
        "v": vectors(0, n),
    }
    source = pa.table(columns)
    (tmp_path / "in").mkdir()
    pq.write_table(source, tmp_path / "in" / "a.parquet", row_group_size=300)
    out = tmp_path / "out"
    run("transform", tmp_path / "in", out, "--select", "*", "--chunk-rows", 300, *DELTA)
    found = read(out)
    assert found.schema.names == source.schema.names
    for name in columns:
        if name == "f64":
            wanted = source[name].to_pylist()
            assert found[name].to_pylist()[:5] == wanted[:5] and found[name].null_count == 0
            continue
        assert found[name].to_pylist() == source[name].to_pylist(), name
    # Bounds are bounds: no file that has a row is left out.
    delta = DeltaTable(str(out))
    actions = pa.table(delta.get_add_actions(flatten=True))
    for name in ("i8", "i16", "i32", "f32", "text", "section", "at", "ms", "local", "day", "price", "wide"):
        assert f"min.{name}" in actions.schema.names, name
    for name, value in [("text", source["text"][899]), ("at", source["at"][601]), ("ms", source["ms"][601]),
                        ("local", source["local"][601]), ("day", source["day"][300]), ("price", source["price"][300]),
                        ("i32", source["i32"][0]), ("f32", source["f32"][299]), ("wide", source["wide"][599]),
                        ("i16", source["i16"][598]), ("section", source["section"][301])]:
        rows = delta.to_pyarrow_table(filters=[(name, "=", value.as_py())])
        assert rows.num_rows >= 1, name
    assert delta.to_pyarrow_table(filters=[("f64", ">", 0.0)]).num_rows >= n - 2
    # And back: what a job reads of the table is what it has written.
    run("transform", out, tmp_path / "again", "--select", "*")
    again = pa.concat_tables(pq.read_table(f) for f in sorted((tmp_path / "again").glob("*.parquet")))
    assert again.schema.names == source.schema.names
    assert again.drop_columns(["f64"]).cast(source.drop_columns(["f64"]).schema).equals(source.drop_columns(["f64"]))
    assert again.schema.field("v").type == source.schema.field("v").type


def test_partitions(lake, tmp_path):
    for lang, year, first in [("de", 2025, 0), ("de", 2026, 1000), ("a/b c", 2026, 2000)]:
        directory = tmp_path / "in" / f"lang={lang.replace('/', '%2F')}" / f"year={year}"
        directory.mkdir(parents=True)
        pq.write_table(pa.table({"id": pa.array(range(first, first + 500)), "v": vectors(first, 500)}), directory / "x.parquet")
    run(*job(tmp_path / "in", tmp_path / "t", lake / "model.parquet", *DELTA))
    delta = DeltaTable(str(tmp_path / "t"))
    assert delta.metadata().partition_columns == ["lang", "year"]
    rows = read(tmp_path / "t")
    assert set(zip(rows["lang"].to_pylist(), rows["year"].to_pylist())) == {("de", "2025"), ("de", "2026"), ("a/b c", "2026")}
    chosen = delta.to_pyarrow_table(partitions=[("lang", "=", "a/b c")])
    assert chosen.num_rows == 500 and min(chosen["id"].to_pylist()) == 2000
    assert len(delta.file_uris(partition_filters=[("year", "=", "2026")])) == 2


def test_vacuum_and_time_travel(lake, tmp_path):
    (tmp_path / "in").mkdir()
    source = tmp_path / "in" / "a.parquet"

    def write(first):
        pq.write_table(pa.table({"id": pa.array(range(first, first + 500)), "v": vectors(first, 500)}), source, row_group_size=CHUNK)

    out = tmp_path / "t"
    more = (*DELTA, "--incremental")
    for first in (0, 1000, 2000):
        write(first)
        run(*job(tmp_path / "in", out, lake / "model.parquet", *more))
    for version, first in enumerate((0, 1000, 2000)):
        rows = DeltaTable(str(out), version=version).to_pyarrow_table()
        assert sorted(rows["id"].to_pylist()) == list(range(first, first + 500))
    control = {f.name: f.read_bytes() for f in (out / "_lakefold").iterdir() if f.is_file()}
    assert {"manifest.json", "job.json", "delta.json"} <= control.keys()
    (out / "stray.parquet").write_bytes(b"of a run that did not end")
    removed = DeltaTable(str(out)).vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False, full=True)
    assert len(removed) == 5
    # What the job knows is not touched, and it has nothing to do.
    assert {f.name: f.read_bytes() for f in (out / "_lakefold").iterdir() if f.is_file()} == control
    done = run(*job(tmp_path / "in", out, lake / "model.parquet", *more))
    assert "0 rows in 0 chunks" in done.stderr and "2 chunks were written before" in done.stderr
    rows = read(out)
    assert rows["id"].to_pylist() == list(range(2000, 2500))
    with pytest.raises(Exception):
        DeltaTable(str(out), version=0).to_pyarrow_table()


def test_what_others_do_to_the_table_is_kept(lake, tmp_path, table):
    delta = DeltaTable(str(table))
    # Their rows beside the job's.
    mine = delta.to_pyarrow_table().slice(0, 10)
    theirs = mine.set_column(mine.schema.get_field_index("id"), "id", pa.array(range(100_000, 100_010)))
    write_deltalake(str(table), theirs, mode="append")
    # The job's files written into one, with the same rows.
    DeltaTable(str(table)).optimize.compact()
    DeltaTable(str(table)).delete("id < 100")
    expected = 2 * ROWS - 100 + 10
    assert read(table).num_rows == expected
    done = run(*job(lake / "in", table, lake / "model.parquet", *DELTA))
    assert "24 chunks were written before" in done.stderr
    assert read(table).num_rows == expected
    assert max(read(table)["id"].to_pylist()) == 100_009
    # To replace is to replace.
    run(*job(lake / "in", table, lake / "model.parquet", *DELTA, "--overwrite"))
    assert read(table)["id"].to_pylist() == list(range(2 * ROWS))


def test_a_table_of_others_is_added_to_or_refused(lake, tmp_path):
    out = tmp_path / "t"
    embedding = pa.array([[1.0, 2.0]], pa.list_(pa.float32()))
    vector = pa.array([[1.0, 2.0, 3.0]], pa.list_(pa.float32()))
    write_deltalake(str(out), pa.table({"id": pa.array([-1]), "v": vector, "embedding": embedding}))
    run(*job(lake / "in", out, lake / "model.parquet", *DELTA))
    assert read(out)["id"].to_pylist() == list(range(-1, 2 * ROWS))
    other = tmp_path / "other"
    write_deltalake(str(other), pa.table({"id": pa.array(["a"]), "x": pa.array([1.5])}))
    done = run(*job(lake / "in", other, lake / "model.parquet", *DELTA), code=1)
    assert "'id' is string in the table and long in the output" in done.stderr
    assert "'x' is not in the output" in done.stderr and "--overwrite" in done.stderr
    run(*job(lake / "in", other, lake / "model.parquet", *DELTA, "--overwrite"))
    assert read(other)["id"].to_pylist() == list(range(2 * ROWS))
    assert DeltaTable(str(other), version=0).to_pyarrow_table()["id"].to_pylist() == ["a"]
    # Rules that rows would have to be checked by.
    checked = tmp_path / "checked"
    write_deltalake(str(checked), pa.table({"id": pa.array([1]), "v": vector, "embedding": embedding}))
    DeltaTable(str(checked)).alter.add_constraint({"positive": "id >= 0"})
    done = run(*job(lake / "in", checked, lake / "model.parquet", *DELTA), code=1)
    assert "CHECK constraint (delta.constraints.positive)" in done.stderr


def test_tables_of_others_as_input(lake, tmp_path):
    source = tmp_path / "source"
    table = pa.table({
        "id": pa.array(range(600)),
        "v": vectors(0, 600),
        "day": pa.array([datetime.date(2026, 1, 1 + i % 3) for i in range(600)]),
    })
    write_deltalake(str(source), table, partition_by=["day"])
    # Files of other types for the same column of the log: another writer's, and what is rewritten.
    DeltaTable(str(source)).delete("id % 2 = 0 AND day = '2026-01-02'")
    rows = run("sql", "--format", "csv", "-c", f"SELECT count(*), max(id), count(DISTINCT day) FROM '{source}' WHERE day > DATE '2025-12-31'")
    assert rows.stdout.splitlines()[1] == "500,599,3"
    out = tmp_path / "out"
    run(*job(source, out, lake / "model.parquet", *DELTA))
    found = read(out)
    kept = [i for i in range(600) if i % 3 != 1 or i % 2]
    assert found["id"].to_pylist() == kept
    assert found["v"].to_pylist() == table.take(kept)["v"].to_pylist()
    assert found.schema.field("day").type == pa.date32()
    assert sorted(set(found["day"].to_pylist())) == [datetime.date(2026, 1, d) for d in (1, 2, 3)]
    # Its versions.
    early = tmp_path / "early"
    run(*job(source, early, lake / "model.parquet", *DELTA, "--input-version", 0))
    assert read(early)["id"].to_pylist() == list(range(600))


def test_many_versions_make_checkpoints(lake, tmp_path):
    """Beyond the hundredth version the log has a checkpoint, which must keep what the job asks the log for."""
    out, source = tmp_path / "t", tmp_path / "in"
    source.mkdir()
    pq.write_table(pa.table({"id": pa.array(range(10)), "v": vectors(0, 10)}), source / "a.parquet")
    arguments = ["transform", source, out, "--select", "id", *DELTA]
    run(*arguments)
    for i in range(105):
        write_deltalake(str(out), pa.table({"id": pa.array([1000 + i])}), mode="append")
    pq.write_table(pa.table({"id": pa.array(range(10, 20)), "v": vectors(0, 10)}), source / "b.parquet")
    run(*arguments)
    DeltaTable(str(out)).create_checkpoint()
    done = run(*arguments)
    assert "2 chunks were written before" in done.stderr
    assert read(out)["id"].to_pylist() == [*range(20), *range(1000, 1105)]
    assert DeltaTable(str(out)).transaction_version("lakefold") == 2


def test_writers_at_the_same_time(lake, tmp_path):
    """Another writer that commits three times a second: nothing is lost and nothing is there twice."""
    out = tmp_path / "t"
    (tmp_path / "in").mkdir()
    arguments = ["transform", tmp_path / "in", out, "--select", "id", *DELTA]
    pq.write_table(pa.table({"id": pa.array(range(10))}), tmp_path / "in" / "0.parquet")
    run(*arguments)
    stop = threading.Event()
    written = []

    def append():
        while not stop.is_set():
            number = 1_000_000 + len(written)
            write_deltalake(str(out), pa.table({"id": pa.array([number])}), mode="append")
            written.append(number)
            # A commit of a debug build takes longer than this writer's: it must find a gap.
            stop.wait(0.3)

    writer = threading.Thread(target=append)
    writer.start()
    jobs = 1
    try:
        # On a fast machine eight jobs are through before the other writer is.
        while jobs < 8 or len(written) < 4 and jobs < 100:
            pq.write_table(pa.table({"id": pa.array(range(10 * jobs, 10 * jobs + 10))}), tmp_path / "in" / f"{jobs}.parquet")
            run(*arguments)
            jobs += 1
    finally:
        stop.set()
        writer.join()
    assert len(written) > 3
    assert read(out)["id"].to_pylist() == [*range(10 * jobs), *written]


def s3_options(s3):
    return {"AWS_ENDPOINT_URL": s3.url, "AWS_ALLOW_HTTP": "true", "AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s",
            "AWS_REGION": "us-east-1", "aws_conditional_put": "etag"}


def s3_job(bucket, *more):
    return job(f"s3://{bucket}/in/", f"s3://{bucket}/t/", f"s3://{bucket}/model.parquet", *DELTA, *more)


def test_on_s3(lake, reference, s3):
    bucket = s3.bucket(lake)
    run(*s3_job(bucket), environment=s3.environment())
    url = f"s3://{bucket}/t"
    delta = DeltaTable(url, storage_options=s3_options(s3))
    assert delta.version() == 0
    assert delta.to_pyarrow_table().sort_by("id")["id"].to_pylist() == list(range(2 * ROWS))
    files = s3.visible(bucket, "t/")
    assert sorted(files.values()) == sorted(reference.values())
    # A grown input, and one file of it replaced.
    content = (lake / "in" / "a.parquet").read_bytes()
    s3.client.put_object(Bucket=bucket, Key="in/c.parquet", Body=content)
    run(*s3_job(bucket), environment=s3.environment())
    delta.update_incremental()
    assert (delta.version(), delta.to_pyarrow_table().num_rows) == (1, 3 * ROWS)
    s3.client.put_object(Bucket=bucket, Key="in/c.parquet", Body=(lake / "in" / "b.parquet").read_bytes())
    run(*s3_job(bucket, "--incremental"), environment=s3.environment())
    delta.update_incremental()
    assert (delta.version(), delta.to_pyarrow_table().num_rows) == (2, 3 * ROWS)
    # From the table on S3 to the local disk.
    again = job(url + "/", lake / "from-s3", lake / "model.parquet", "--output-column", "e")
    done = run(*again, environment=s3.environment())
    assert f"{3 * ROWS:,} rows" in done.stderr
    assert DeltaTable(url, version=0, storage_options=s3_options(s3)).to_pyarrow_table().num_rows == 2 * ROWS


def test_killed_and_resumed_on_s3(lake, reference, s3):
    bucket = s3.bucket(lake)
    arguments = [LAKEFOLD, *map(str, s3_job(bucket, "--threads", 1))]
    kills = [
        lambda: len(s3.visible(bucket, "t/")) >= 9,
        lambda: any(n.startswith("_delta_log/") for n in s3.objects(bucket, "t/")),
    ]
    for ready in kills:
        process = subprocess.Popen(arguments, env={**os.environ, **s3.environment()}, stderr=subprocess.DEVNULL)
        while not ready() and process.poll() is None:
            time.sleep(0.01)
        process.kill()
        process.wait()
    done = run(*s3_job(bucket), environment=s3.environment())
    assert "version 0 of the Delta Lake table" in done.stderr
    delta = DeltaTable(f"s3://{bucket}/t", storage_options=s3_options(s3))
    assert delta.version() == 0 and len(delta.file_uris()) == len(reference)
    assert sorted(s3.visible(bucket, "t/").values()) == sorted(reference.values())


@pytest.mark.parametrize("fault", [500, 503, "timeout"])
def test_faults_of_the_store(lake, reference, s3, fault):
    """A commit whose answer is lost is made once."""
    bucket = s3.bucket(lake)
    s3.proxy.fail(fault, share=0.1 if fault != "timeout" else 0.03)
    run(*s3_job(bucket, "--option", "timeout=1s"), environment=s3.environment(proxied=True))
    assert s3.proxy.faults > 0
    s3.proxy.heal()
    delta = DeltaTable(f"s3://{bucket}/t", storage_options=s3_options(s3))
    assert delta.version() == 0 and len(delta.file_uris()) == len(reference)
    assert delta.to_pyarrow_table().num_rows == 2 * ROWS
