#!/usr/bin/env python3
"""A lake job against its parts: rows of 64 dimensions transformed with 1,000 landmarks, Parquet to Parquet, beside a plain copy
of the same file by the same engine and the bare transform of the same rows in memory.

    python benches/peers/lake.py [--binary target/release/lakefold] [--rows 10000000] [--memory-limit 1g] [--repeat 1]

The copy is a job as well (`--select "*"`), with the same codec, row groups and chunks. The bare transform is bench_transform on
the same rows as one matrix, with 1,000 of them as landmarks and 12 of those a row. The job should take at most 1.5 times the sum of both. Peak memory is
that of the whole process. Files go to target/peers, about 250 MB a million rows, three times over.
"""

import argparse
import json
import os
import shutil
import subprocess
import time

import common
import numpy as np
import pyarrow.parquet as pq
import scale

LANDMARKS, NEIGHBORS, REG, ALLOWED = 1000, 12, 0.1, 1.5


def run(command):
    """Seconds, peak memory and the last lines of stderr of a command that must end well."""
    started = time.perf_counter()
    with subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        output, messages = process.stdout.read(), process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = status
    if status:
        raise SystemExit(f"{' '.join(map(str, command))}\n{messages}")
    return {"seconds": time.perf_counter() - started, "peak_rss_bytes": usage.ru_maxrss * 1024, "output": output}


def job(binary, source, name, memory_limit, *more):
    target = common.work_directory() / name
    shutil.rmtree(target, ignore_errors=True)
    done = run([binary, "transform", source, target, "--memory-limit", memory_limit, "--summary", "json", "-q", *more])
    return {**done, "summary": json.loads(done["output"])}


def matrix(source, rows):
    """The vectors as one matrix on disk, for the benchmark of the kernel."""
    path = common.work_directory() / f"rows-{rows}.npy"
    if not path.exists():
        aside = path.with_suffix(".aside")
        out = np.lib.format.open_memmap(aside, "w+", np.float32, (rows, scale.DIMENSIONS))
        start = 0
        for batch in pq.ParquetFile(source).iter_batches(batch_size=scale.PART, columns=["x"]):
            out[start : start + len(batch)] = batch.column(0).flatten().to_numpy().reshape(-1, scale.DIMENSIONS)
            start += len(batch)
        out.flush()
        del out
        aside.rename(path)
    return path


def report(binary, bench, rows, memory_limit, repeat):
    source = scale.generated(rows)
    model = common.work_directory() / "lake-model.parquet"
    run([binary, "fit", source, "--column", "x", "--model", model, "--n-components", 4, "--n-neighbors", 12, "--reg", REG,
         "--solver", "landmarks", "--n-landmarks", LANDMARKS, "--landmark-neighbors", NEIGHBORS, "-q"])
    best = lambda runs: min(runs, key=lambda r: r["seconds"])
    copy = best([job(binary, source, "lake-copy", memory_limit, "--select", "*") for _ in range(repeat)])
    whole = best([job(binary, source, "lake-out", memory_limit, "--column", "x", "--model", model) for _ in range(repeat)])
    kernel = [bench, "--input", matrix(source, rows), "--landmarks", LANDMARKS, "--landmark-neighbors", NEIGHBORS, "--reg", REG]
    bare = json.loads(run([*kernel, "--threads", common.THREADS, "--repeat", repeat])["output"])
    bare = rows / bare["rows_per_second"]
    ratio = whole["seconds"] / (copy["seconds"] + bare)
    phases = whole["summary"]["seconds"]
    lines = [
        ["plain copy", f"{copy['seconds']:.1f}", common.mebibytes(copy)],
        ["bare transform in memory", f"{bare:.1f}", "–"],
        ["the job", f"{whole['seconds']:.1f}", common.mebibytes(whole)],
    ]
    verdict = f"The job takes {ratio:.2f} times the sum of both (allowed: {ALLOWED}), {whole['summary']['rows_per_second']:,.0f} rows a second with " \
        f"{whole['summary']['parallel']} chunks at once; computing {phases['compute']:.1f} s and writing {phases['write']:.1f} s, summed over chunks."
    head = f"## Lake job: {rows:,} rows × {scale.DIMENSIONS}, {LANDMARKS:,} landmarks, {NEIGHBORS} a row, memory limit {memory_limit}, {binary}\n\n"
    return head + common.table(["", "seconds", "peak MiB"], lines) + f"\n\n{verdict}\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default=str(common.target_directory() / "release" / "lakefold"))
    parser.add_argument("--bench", default=str(common.target_directory() / "release" / "bench_transform"))
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--memory-limit", default="1g")
    parser.add_argument("--repeat", type=int, default=1)
    args = parser.parse_args()
    print(report(args.binary, args.bench, args.rows, args.memory_limit, args.repeat), flush=True)


if __name__ == "__main__":
    main()
