#!/usr/bin/env python3
"""HNSW through SQL beside the bare library, and how soon a stored index answers.

    python benches/peers/hnsw_sql.py [--binary target/release/lakefold] [--data debian fashion] [--m 24] [--ef 60] [--storage auto] [--repeat 3]

`knn_join` finds the 10 nearest rows of each query of `hnsw.py`'s two tables, which lie in Parquet files, once through a graph
that it builds and once through a stored index. The bare library is `bench_hnsw`: the same graph, rows and queries in memory, with codes
where the stored index has them.
A query's time is what one more run of it adds to a process that ran it before, so that it includes planning, reading both
tables and the table of pairs.

Reopening: an index of 1,000,000 generated rows of 64 dimensions, and the nearest 10 rows of a vector by ORDER BY … LIMIT in a
new process, with the index in the system's page cache and with its pages dropped from it first.
"""

import argparse
import json
import os
import shutil
import subprocess
import time

import numpy as np

import common
import hnsw
import scale

K = 10


def written(name, X):
    """A directory with one Parquet file of ids and vectors, made once."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    directory = common.work_directory() / f"hnsw-sql-{name}"
    path = directory / "rows.parquet"
    if not path.exists():
        directory.mkdir(exist_ok=True)
        x = pa.FixedSizeListArray.from_arrays(pa.array(X.ravel()), X.shape[1])
        aside = path.with_suffix(".aside")
        pq.write_table(pa.table({"id": pa.array(np.arange(len(X))), "x": x}), aside, row_group_size=50_000)
        aside.rename(path)
    return directory


def index(binary, directory, m, storage="auto"):
    """Builds the directory's only index; seconds and peak memory of the whole process."""
    shutil.rmtree(directory / ".lakefold", ignore_errors=True)
    return common.run_raw([binary, "index", "build", directory, "--column", "x", "--m", m, "--storage", storage, "-q"])


def added(binary, query, repeat):
    return common.added_by(binary, "SELECT 1", query, repeat, times=2)


def join(binary, name, m, ef, repeat, storage):
    X, Q = hnsw.data(name)
    rows, queries = written(name, X), written(f"{name}-queries", Q)
    common.saved(f"hnsw-{name}", X)
    common.saved(f"hnsw-{name}-queries", Q)
    lines = []
    # A graph that is built for the call has vectors, a stored index codes too if it wants them.
    answers = {"call": ("lakefold", "f32"), "stored": ("lakefold", storage), "hnswlib": ("hnswlib", "f32")}
    for kind, (side, kept) in answers.items():
        answers[kind] = hnsw.run(side, name, m, repeat, [ef], kept)
        if "error" in answers[kind]:
            raise SystemExit(f"{side}: {answers[kind]['error']}")
    searched = {kind: len(Q) / answer["searches"][0]["queries_per_second"] for kind, answer in answers.items()}
    built = [answers[kind]["build_seconds"] + searched[kind] for kind in ("call", "hnswlib")]
    bare = [searched[kind] for kind in ("stored", "hnswlib")]

    def line(what, seconds, kind):
        ratios = [peer / seconds for peer in kind]
        lines.append([what, f"{seconds:.2f}", f"{len(Q) / seconds:,.0f}", *(f"{ratio:.2f}" for ratio in ratios)])

    call = (
        f"SELECT count(neighbor_id), sum(distance) FROM knn_join('{queries}/rows.parquet', id, x, '{rows}/rows.parquet', id, x, "
        f"k => {K}, m => {m}, ef_search => {ef}, method => 'hnsw')"
    )
    line("bare library, built and searched", built[0], built)
    shutil.rmtree(rows / ".lakefold", ignore_errors=True)
    answer = common.added_by(binary, "SELECT 1", call, 1, times=1)
    if "error" in answer:
        raise SystemExit(answer["error"])
    line("knn_join, built and searched", answer["seconds"], built)
    line("bare library, searched", bare[0], bare)
    done = index(binary, rows, m, storage)
    if "error" in done:
        raise SystemExit(done["error"])
    answer = added(binary, call, repeat)
    if "error" in answer:
        raise SystemExit(answer["error"])
    line("knn_join, stored index", answer["seconds"], bare)
    text = f"### {name}: {len(Q):,} queries, {len(X):,} × {X.shape[1]}, M {m}, ef_search {ef}\n\n"
    return text + common.table(["", "seconds", "queries a second", "speed / bare library", "speed / hnswlib"], lines) + "\n"


def drop_pages(path):
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def fastest(command, before, repeat):
    best = np.inf
    for _ in range(repeat):
        before()
        answer = common.run_raw(command)
        if "error" in answer:
            raise SystemExit(answer["error"])
        best = min(best, answer["seconds"])
    return best


def reopen(binary, rows, repeat):
    source = scale.generated(rows)
    directory = common.work_directory() / f"hnsw-sql-{rows}"
    directory.mkdir(exist_ok=True)
    table = directory / "rows.parquet"
    if not table.exists():
        os.link(source, table)
    file = directory / ".lakefold" / "x.hnsw"
    started = time.perf_counter()
    if not file.exists():
        done = index(binary, directory, 16)
        if "error" in done:
            raise SystemExit(done["error"])
        print(f"built in {time.perf_counter() - started:.0f} s, peak {common.mebibytes(done)} MiB\n")
    info = json.loads(subprocess.run([binary, "index", "info", directory, "--format", "json", "-q"], check=True, capture_output=True).stdout)
    vector = ", ".join(f"{v:.3f}" for v in np.random.default_rng(3).normal(size=64))
    nearest = f"SELECT id FROM '{directory}' ORDER BY array_distance(x, [{vector}]) LIMIT {K}"
    run = [binary, "sql", "-q"]
    start = fastest([*run, "-c", "SELECT 1"], lambda: None, repeat)
    exact = fastest([*run, "-c", "SET hnsw.enabled = false", "-c", nearest], lambda: None, repeat)
    warm = fastest([*run, "-c", nearest], lambda: None, repeat)
    cold = fastest([*run, "-c", nearest], lambda: drop_pages(file), repeat)
    more = [*run, *["-c", nearest] * 101]
    each = (fastest(more, lambda: None, repeat) - warm) / 100
    lines = [
        ["start of the program", f"{start:.3f}"],
        ["and the first 10 nearest rows, index in the page cache", f"{warm:.3f}"],
        ["the same, index on disk", f"{cold:.3f}"],
        ["every further one", f"{each:.4f}"],
        ["without the index", f"{exact:.3f}"],
    ]
    size = file.stat().st_size / 2**20
    recall = ", ".join(f"{point['recall']:.4f} at ef {point['ef_search']}" for point in info.get("recall", []))
    text = f"### Reopening: {rows:,} × 64, M 16, an index of {size:,.0f} MiB\n\n"
    return text + common.table(["a new process", "seconds"], lines) + f"\n\nSampled recall@10: {recall}\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default=str(common.target_directory() / "release" / "lakefold"))
    parser.add_argument("--data", nargs="*", default=["debian", "fashion"], choices=["debian", "fashion"])
    parser.add_argument("--m", type=int, default=24)
    parser.add_argument("--storage", default="auto", choices=["auto", "f32", "int8"], help="of the stored index")
    parser.add_argument("--ef", type=int, default=60)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--reopen", type=int, default=1_000_000, help="rows of the index that is reopened; 0 for none")
    args = parser.parse_args()
    for name in args.data:
        print(join(args.binary, name, args.m, args.ef, args.repeat, args.storage), flush=True)
    if args.reopen:
        print(reopen(args.binary, args.reopen, args.repeat), flush=True)


if __name__ == "__main__":
    main()
