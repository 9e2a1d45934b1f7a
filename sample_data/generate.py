#!/usr/bin/env python3
"""Writes the Parquet files of this folder anew. For maintainers; the files are committed.

    make sample-data          (or: python sample_data/generate.py)

Needs numpy, pyarrow and scikit-learn (benches/peers/requirements.txt). debian_packages.parquet is drawn from
../shared/data beside the checkout and left as it is where that is absent.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from sklearn.datasets import load_digits, make_swiss_roll

HERE = Path(__file__).resolve().parent
WHOLE_DEBIAN = HERE.parents[1] / "shared" / "data" / "debian_packages.parquet"
SEED = 0


def vectors(rows, value_type):
    """The values' field is called as Parquet calls it, so that readers that look at either name agree on the type."""
    list_type = pa.list_(pa.field("element", value_type), rows.shape[1])
    return pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel(), value_type), type=list_type)


def write(name, table, split=()):
    """Small row groups, so that a scan of even these files has several. `split`: columns of noisy floats,
    which compress better with their bytes apart."""
    path = HERE / name
    pq.write_table(
        table,
        path,
        compression="zstd",
        compression_level=19,
        row_group_size=1000,
        use_dictionary=[field.name for field in table.schema if pa.types.is_string(field.type)],
        use_byte_stream_split=[f"{column}.list.element" for column in split],
    )
    assert pq.read_table(path).equals(table), name
    print(f"{name}: {table.num_rows} rows, {path.stat().st_size / 1e6:.2f} MB, {table.schema.to_string(show_schema_metadata=False)!r}")


def digits():
    bunch = load_digits()
    return pa.table(
        {
            "id": pa.array(np.arange(len(bunch.data)), pa.int64()),
            "label": pa.array(bunch.target, pa.int8()),
            "pixels": vectors(bunch.data, pa.float32()),
        }
    )


def swiss_roll():
    points, t = make_swiss_roll(2000, noise=0.0, random_state=SEED)
    return pa.table(
        {
            "id": pa.array(np.arange(len(points)), pa.int64()),
            "position": vectors(points, pa.float64()),
            "t": pa.array(t),
            "height": pa.array(points[:, 1]),
        }
    )


def debian_packages():
    whole = pq.read_table(WHOLE_DEBIAN)
    chosen = np.sort(np.random.default_rng(SEED).choice(len(whole), 5000, replace=False))
    sample = whole.take(chosen).combine_chunks()
    embedding = np.array(sample["embedding"].combine_chunks().flatten())
    return pa.table(
        {
            "package": sample["package"],
            "section": sample["section"],
            "installed_kib": sample["installed_kib"],
            "embedding": vectors(embedding.reshape(len(sample), -1), pa.float32()),
        }
    )


def main():
    write("digits.parquet", digits())
    write("swiss_roll.parquet", swiss_roll(), split=["position"])
    if WHOLE_DEBIAN.exists():
        write("debian_packages.parquet", debian_packages(), split=["embedding"])
    else:
        print("debian_packages.parquet: left as it is, the whole table is not beside this checkout")


if __name__ == "__main__":
    main()
