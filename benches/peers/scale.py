#!/usr/bin/env python3
"""Time and memory of `lle(…)` from 10,000 to 10,000,000 rows: generated rows of 64 dimensions, Parquet to Parquet.

    python benches/peers/scale.py [--binary target/release/lakefold] [--rows 10000 --rows 1000000 ...] [--memory-limit 2g]

The rows are four coordinates, bent by sine and cosine into 64 dimensions, with noise; seeded, the same everywhere. The job
reads them, embeds them in 4 components with the default sample of 65,536 rows, and writes id and embedding. Peak memory
is that of the whole process. Files go to target/peers, about 250 MB a million rows, and as much again in temporary files.
"""

import argparse
import re
import resource

import common
import numpy as np

DIMENSIONS, PART = 64, 250_000
QUERY = (
    "COPY (SELECT id, embedding FROM lle('{input}', x, n_components => 4, n_neighbors => 12, reg => 0.1)) "
    "TO '{output}' STORED AS PARQUET"
)


def generated(rows):
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = common.work_directory() / f"rows-{rows}.parquet"
    if path.exists():
        return path
    mixing = np.random.default_rng(0).normal(size=(8, DIMENSIONS)).astype(np.float32)
    aside, writer = path.with_suffix(".aside"), None
    for start in range(0, rows, PART):
        rng = np.random.default_rng([1, start])
        count = min(PART, rows - start)
        t = rng.uniform(0, 3, (count, 4)).astype(np.float32)
        x = np.concatenate([np.sin(t), np.cos(t)], axis=1) @ mixing
        x += 0.05 * rng.normal(size=x.shape).astype(np.float32)
        lists = pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), DIMENSIONS)
        table = pa.table({"id": pa.array(np.arange(start, start + count)), "x": lists})
        writer = writer or pq.ParquetWriter(aside, table.schema, compression="zstd")
        writer.write_table(table, row_group_size=125_000)
    writer.close()
    aside.rename(path)
    return path


def job(binary, rows, memory_limit):
    output = common.work_directory() / "scale-out.parquet"
    command = [binary, "sql", "-v", "--memory-limit", memory_limit, "-c", QUERY.format(input=generated(rows), output=output)]
    answer = common.run_raw(command)
    if "error" in answer:
        return answer, None
    fit = re.search(r"([\d.]+) s$", next((m.strip() for m in answer["messages"] if m.startswith("lle_embed:")), ""))
    return answer, fit and fit.group(1)


def report(binary, counts, memory_limit):
    lines = []
    for rows in counts:
        answer, fit = job(binary, rows, memory_limit)
        rate = "" if "error" in answer else f"{rows / answer['seconds']:,.0f}"
        processor = "" if "error" in answer else f"{answer['processor']:.1f}"
        lines.append([f"{rows:,}", common.seconds(answer), fit or "", processor, rate, common.mebibytes(answer)])
    header = ["rows", "seconds", "of these the fit", "processor seconds", "rows a second", "peak MiB"]
    return f"## Scale: rows × {DIMENSIONS}, memory limit {memory_limit}, {binary}\n\n" + common.table(header, lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default=str(common.target_directory() / "release" / "lakefold"))
    parser.add_argument("--rows", type=int, action="append")
    parser.add_argument("--memory-limit", default="2g")
    args = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    print(report(args.binary, args.rows or [10**n for n in range(4, 8)], args.memory_limit), flush=True)


if __name__ == "__main__":
    main()
