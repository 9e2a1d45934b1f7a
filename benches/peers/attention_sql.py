#!/usr/bin/env python3
"""Attention through SQL: against ONNX Runtime, against DataFusion's built-in functions, in memory and by frame.

    python benches/peers/attention_sql.py [--binary target/release/lakefold] [--repeat 3] [--skip-memory]

A query's time is what one more run of it adds to a process that has loaded its table into memory before, so that it
includes everything but start and loading: scan, repartitioning, sorting, the function and a count of its results. ONNX
Runtime computes MultiHeadAttention on the same numbers in the same run. Short sequences come as a table of 32 of them, of
which the mean counts, so that it is the function that is timed and not the planning of a query. Attention of L queries and
keys of 12 heads of 64 counts as 4·L²·768 operations, causal attention as half of that.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

import common
import scale
from attention import HEADS, SIZE, attend, inputs, worker

WIDTH = HEADS * SIZE
SEQUENCES = {512: 32, 4096: 1}


def tables(length):
    """Files of equal sequences: a row for each, and a row for each sequence, head and position."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    count = SEQUENCES[length]
    sequences = common.work_directory() / f"attention-sequences-{count}x{length}.parquet"
    rows = common.work_directory() / f"attention-rows-{count}x{length}.parquet"
    if not (sequences.exists() and rows.exists()):
        arrays = {name: np.load(path) for name, path in inputs(length).items()}
        vectors = {name: pa.FixedSizeListArray.from_arrays(pa.array(array.ravel()), WIDTH) for name, array in arrays.items()}
        offsets = pa.array([0, length], pa.int32())
        one = pa.table({name: pa.ListArray.from_arrays(offsets, v) for name, v in vectors.items()})
        pq.write_table(pa.concat_tables([one] * count), sequences)
        heads = {name: np.ascontiguousarray(a.reshape(length, HEADS, SIZE).swapaxes(0, 1)) for name, a in arrays.items()}
        columns = {name: pa.FixedSizeListArray.from_arrays(pa.array(a.ravel()), SIZE) for name, a in heads.items()}
        columns["head"] = pa.array(np.repeat(np.arange(HEADS), length))
        columns["position"] = pa.array(np.tile(np.arange(length), HEADS))
        ones = [pa.table(columns | {"sequence": pa.array(np.full(HEADS * length, i))}) for i in range(count)]
        pq.write_table(pa.concat_tables(ones), rows)
    return sequences, rows


def against_onnx_runtime(binary, repeat):
    lines = []
    for length in (512, 4096):
        sequences, rows = tables(length)
        for causal in (False, True):
            flags = ["--causal"] if causal else []
            output = common.work_directory() / "attention-sql.out.npy"
            reference, _ = attend(worker("onnxruntime"), length, output, *flags, repeat=5 if length > 2048 else 40)
            frame = "ORDER BY position ROWS UNBOUNDED PRECEDING" if causal else ""
            call = f"multi_head_attention(query, key, value, {HEADS}, {HEADS}, {str(causal).lower()})"
            queries = {
                "multi_head_attention": (sequences, f"SELECT count({call}) FROM t"),
                "self_attention": (rows, f"SELECT count(a) FROM (SELECT self_attention(query, key, value) OVER (PARTITION BY sequence, head {frame}) AS a FROM t)"),
            }
            operations = 4 * length**2 * WIDTH / (2 if causal else 1)
            for name, (path, query) in queries.items():
                answer = common.added_by(binary, f"CREATE TABLE t AS SELECT * FROM '{path}'", query, repeat)
                kind = "causal" if causal else "whole"
                if "error" in answer or "error" in reference:
                    lines.append([f"{length:,}", kind, name, "failed: " + answer.get("error", reference.get("error", "")), "", "", ""])
                    continue
                seconds = answer["seconds"] / SEQUENCES[length]
                rate = operations / seconds / 1e9
                ratio = reference["seconds"] / seconds
                lines.append([f"{length:,}", kind, name, f"{seconds * 1e3:.1f}", f"{reference['seconds'] * 1e3:.1f}",
                              f"{rate:.0f}", f"{ratio:.2f}"])
    head = ["rows", "mask", "function", "ms", "ONNX Runtime ms", "GFLOP/s", "speed / ONNX Runtime"]
    return "### Through SQL, 12 heads of 64\n\n" + common.table(head, lines) + "\n"


def against_built_in(binary, repeat):
    path = scale.generated(1_000_000)
    create = f"CREATE TABLE t AS SELECT id, id % 1000 AS g, x FROM '{path}'"
    query = "[" + ", ".join(["0.1"] * 64) + "]::FLOAT[]"
    scored = f"(SELECT g, x, inner_product(x, {query}) / 8.0 AS s FROM t)"
    lines = []
    for name, group in (("one group", ""), ("1,000 groups", "g, ")):
        by = "GROUP BY g" if group else ""
        partition = "PARTITION BY g" if group else ""
        ours = f"SELECT count(a) FROM (SELECT {group}attention({query}, x, x) AS a FROM t {by})"
        weighted = f"(SELECT g, x, exp(s - max(s) OVER ({partition})) AS w FROM {scored})"
        if not group:
            weighted = f"(SELECT g, x, exp(s - m) AS w FROM {scored}, (SELECT max(s) AS m FROM {scored}))"
        sums = ", ".join(f"sum(w * x[{i}]) / sum(w)" for i in range(1, 65))
        by_column = f"SELECT count(a) FROM (SELECT {group}make_array({sums}) AS a FROM {weighted} {by})"
        numbers = f"(SELECT g, w, unnest(x) AS v, unnest(range(1, 65)) AS i FROM {weighted})"
        means = f"(SELECT {group}i, sum(w * v) / sum(w) AS v FROM {numbers} GROUP BY {group}i)"
        unnested = f"SELECT count(a) FROM (SELECT {group}array_agg(v ORDER BY i) AS a FROM {means} {by})"
        answers = {"attention": common.added_by(binary, create, ours, repeat)}
        answers["built-in, a sum for each dimension"] = common.added_by(binary, create, by_column, 1, times=1)
        answers["built-in, unnested"] = common.added_by(binary, create, unnested, 1, times=1)
        for road, answer in answers.items():
            if "error" in answer:
                lines.append([name, road, "failed: " + answer["error"], ""])
                continue
            lines.append([name, road, f"{answer['seconds']:.3f}", f"{answer['seconds'] / answers['attention']['seconds']:.1f}"])
    head = ["1,000,000 keys × 64", "written as", "seconds", "times attention"]
    return "### The aggregate against built-in functions\n\n" + common.table(head, lines) + "\n"


def memory(binary):
    query = "[" + ", ".join(["0.1"] * 64) + "]::FLOAT[]"
    lines = []
    for rows in (100_000, 1_000_000, 10_000_000):
        sql = f"SELECT attention({query}, x, x) AS a FROM '{scale.generated(rows)}'"
        answer = common.run_raw([binary, "sql", "-q", "-c", sql])
        if "error" in answer:
            lines.append([f"{rows:,}", "failed: " + answer["error"], ""])
        else:
            lines.append([f"{rows:,}", f"{answer['seconds']:.2f}", common.mebibytes(answer)])
    return "### One group, keys of 64 numbers read from Parquet\n\n" + common.table(["keys", "seconds", "peak MiB"], lines) + "\n"


def frames(binary, repeat):
    lines = []
    for rows in (100_000, 1_000_000):
        create = f"CREATE TABLE t AS SELECT id, x FROM '{scale.generated(rows)}'"
        plain = common.added_by(binary, create, "SELECT count(n) FROM (SELECT row_number() OVER (ORDER BY id) AS n, x FROM t)", repeat)
        cells = [f"{rows:,}"]
        for frame in (16, 64, 256, 1024):
            over = f"ORDER BY id ROWS {frame - 1} PRECEDING"
            answer = common.added_by(binary, create, f"SELECT count(a) FROM (SELECT self_attention(x, x, x) OVER ({over}) AS a FROM t)", 1 if frame > 256 else repeat, times=1 if frame > 64 else 4)
            cells.append("failed: " + answer["error"] if "error" in answer else f"{answer['seconds'] * 1e6 / rows:.2f}")
        cells.append("failed" if "error" in plain else f"{plain['seconds'] * 1e6 / rows:.2f}")
        lines.append(cells)
    head = ["rows in one partition", "frame of 16", "64", "256", "1,024", "sorting alone"]
    return "### Sliding frames, one head of 64: microseconds a row\n\n" + common.table(head, lines) + "\n"


def report(binary, repeat=3, with_memory=True):
    parts = [against_onnx_runtime(binary, repeat), against_built_in(binary, repeat), frames(binary, repeat)]
    if with_memory:
        parts.append(memory(binary))
    return "## Attention in SQL\n\n" + "\n".join(parts)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default=str(common.target_directory() / "release" / "lakefold"))
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--skip-memory", action="store_true")
    args = parser.parse_args()
    print(report(args.binary, args.repeat, not args.skip_memory), flush=True)


if __name__ == "__main__":
    sys.exit(main())
