"""What other programs read of what a job wrote."""

import datetime
import decimal

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from conftest import job, run, vectors


def test_pyarrow_and_duckdb_read_every_row(lake, reference):
    out = lake / "reference"
    table = ds.dataset(out).to_table().sort_by("id")
    source = ds.dataset(lake / "in").to_table().sort_by("id")
    assert table.select(["id", "v"]).equals(source)
    assert table.schema.field("embedding").type == pa.list_(pa.field("item", pa.float32()), 2)
    assert table["embedding"].null_count == 0
    connection = duckdb.connect()
    rows = connection.execute(f"SELECT id, embedding FROM '{out}/*.parquet' ORDER BY id").fetchall()
    assert [r[0] for r in rows] == table["id"].to_pylist()
    assert [list(r[1]) for r in rows] == table["embedding"].to_pylist()


def test_footers_say_what_was_done(lake, reference):
    name = next(iter(sorted(reference)))
    file = pq.ParquetFile(lake / "reference" / name)
    metadata = {k.decode(): v.decode() for k, v in file.metadata.metadata.items()}
    assert metadata["lakefold.input"] == "a.parquet"
    assert metadata["lakefold.input.row_groups"] == "0..1"
    assert len(metadata["lakefold.models"]) == 64
    assert "lle_transform" in metadata["lakefold.parameters"]
    assert metadata["lakefold.version"]
    assert file.metadata.created_by.startswith("lakefold ")
    assert str(lake) not in str(metadata)


def test_columns_that_are_passed_on_keep_everything(lake, tmp_path):
    n = 1000
    fields = [
        pa.field("id", pa.int64(), nullable=False, metadata={"unit": "row"}),
        pa.field("section", pa.dictionary(pa.int32(), pa.string())),
        pa.field("v", pa.list_(pa.field("element", pa.float32()), 3), metadata={"model": "x"}),
        pa.field("large", pa.large_list(pa.field("item", pa.float64()))),
        pa.field("text", pa.large_string()),
        pa.field("bytes", pa.binary(4)),
        pa.field("at", pa.timestamp("us", "Europe/Berlin")),
        pa.field("day", pa.date32()),
        pa.field("price", pa.decimal128(12, 2)),
        pa.field("small", pa.uint8()),
        pa.field("half", pa.float16()),
        pa.field("flag", pa.bool_()),
        pa.field("nested", pa.struct([pa.field("a", pa.int16()), pa.field("b", pa.list_(pa.string()))])),
        pa.field("map", pa.map_(pa.string(), pa.int32())),
    ]
    schema = pa.schema(fields, metadata={"owner": "lake", "table": "t", "zone": "raw"})
    at = datetime.datetime(2026, 11, 23, tzinfo=datetime.timezone.utc)
    columns = [
        range(n),
        [["x", "y", None][i % 3] for i in range(n)],
        vectors(0, n).cast(fields[2].type),
        [None if i % 5 == 0 else [i * 0.5] * (i % 4) for i in range(n)],
        [f"text {i}" for i in range(n)],
        [b"abcd"] * n,
        [at + datetime.timedelta(seconds=i) for i in range(n)],
        [datetime.date(2026, 1, 1)] * n,
        [decimal.Decimal(i) / 100 for i in range(n)],
        [i % 256 for i in range(n)],
        pa.array([float(i % 10) for i in range(n)], pa.float32()).cast(pa.float16()),
        [None if i % 7 == 0 else i % 2 == 0 for i in range(n)],
        [None if i % 11 == 0 else {"a": i, "b": ["z"] * (i % 3)} for i in range(n)],
        [[("k", i)] for i in range(n)],
    ]
    arrays = [c if isinstance(c, pa.Array) else pa.array(c, f.type) for c, f in zip(columns, fields)]
    table = pa.Table.from_arrays(arrays, schema=schema)
    (tmp_path / "in").mkdir()
    pq.write_table(table, tmp_path / "in" / "all types.parquet", row_group_size=300)
    run(*job(tmp_path / "in", tmp_path / "out", lake / "model.parquet"))
    files = sorted((tmp_path / "out").glob("*.parquet"))
    assert [f.name for f in files][:2] == ["all types.00000-00000.parquet", "all types.00001-00001.parquet"]
    read = pa.concat_tables(pq.read_table(f) for f in files)
    for field in schema:
        assert read.schema.field(field.name).equals(field, check_metadata=False), field
        kept = read.schema.field(field.name).metadata or {}
        for key, value in (field.metadata or {}).items():
            assert kept[key] == value, field
    assert read.schema.names == [*schema.names, "embedding"]
    for key, value in schema.metadata.items():
        assert read.schema.metadata[key] == value
    assert read.select(schema.names).cast(schema).equals(table)


def test_options_of_the_writer(lake, tmp_path):
    run(*job(lake / "in", tmp_path / "out", lake / "model.parquet", "--compression", "snappy", "--row-group-rows", 100,
             "--encoding", "v=byte-stream-split", "--encoding", "id=delta-binary-packed"))
    for file in (tmp_path / "out").glob("*.parquet"):
        metadata = pq.ParquetFile(file).metadata
        assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [100, 100, 50]
        columns = [metadata.row_group(0).column(i) for i in range(metadata.num_columns)]
        assert {c.compression for c in columns} == {"SNAPPY"}
        assert "DELTA_BINARY_PACKED" in columns[0].encodings
        assert "BYTE_STREAM_SPLIT" in columns[1].encodings
        # Vectors have no dictionary unless it is asked for.
        assert not columns[2].has_dictionary_page


def test_row_groups_are_capped_by_bytes(lake, tmp_path):
    table = pa.table({"id": pa.array(range(20000)), "v": vectors(0, 20000)})
    (tmp_path / "in").mkdir()
    pq.write_table(table, tmp_path / "in" / "a.parquet")
    run("transform", tmp_path / "in", tmp_path / "out", "--column", "v", "--model", lake / "model.parquet",
        "--row-group-bytes", "64k", "--compression", "uncompressed")
    (file,) = (tmp_path / "out").glob("*.parquet")
    metadata = pq.ParquetFile(file).metadata
    sizes = [metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups)]
    assert len(sizes) >= 8 and max(sizes) <= 80_000, sizes
