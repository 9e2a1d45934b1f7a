#!/usr/bin/env python3
"""Rows placed by a fitted embedding: scikit-learn's `LocallyLinearEmbedding.transform` against ours, with 12 of 2,000
landmarks a row, and the bare float32 product of the same rows and landmarks.

    python benches/peers/transform.py [--rows N] [--peer-rows 4000] [--landmarks 2000] [--repeat 3] [--skip-ours] [--sql target/release/lakefold]

scikit-learn is fitted on the landmarks (2,000 Debian vectors) and places the first of the other rows, ours all of them
with scikit-learn's own embedding of the landmarks. Rates are rows a second; processor seconds tell how many cores were
to be had. The two agree up to rounding wherever no neighbour is tied.
"""

import argparse

import numpy as np

import common


def rate(rows, answer):
    return "failed: " + answer["error"] if "error" in answer else f"{rows / answer['seconds']:,.0f}"


def processor(rows, answer, key="cpu_seconds"):
    return "–" if "error" in answer else f"{answer[key] / rows * 1e6:.1f}"


def difference(theirs, our):
    """The median and the largest distance of a row's two places, in units of the embedding's root mean square."""
    both = np.linalg.norm(theirs - our[: len(theirs)], axis=1) / np.sqrt((theirs**2).mean())
    return f"median {np.median(both):.1e}, largest {both.max():.1e}"


def through_sql(binary, count, landmarks, repeat, theirs, peer_rows):
    """`lle_transform` over a table in memory, with a model of as many landmarks that was fitted to the same rows."""
    path, model = common.SHARED if common.SHARED.exists() else common.SAMPLE, common.work_directory() / "transform-model.parquet"
    fit = f"SELECT * FROM lle_fit('{path}', embedding, n_components => 16, n_neighbors => 12, reg => 0.001, solver => 'landmarks', "
    fit += f"n_landmarks => {landmarks}, landmark_neighbors => 12, model => '{model}')"
    fitted = common.run_raw([binary, "sql", "-q", "-c", fit])
    create = f"CREATE TABLE t AS SELECT embedding FROM '{path}' LIMIT {count}"
    query = f"SELECT count(lle_transform(embedding, '{model}')) FROM t"
    answer = fitted if "error" in fitted else common.added_by(binary, create, query, repeat)
    speed = "–" if "error" in answer else f"{count / answer['seconds'] * theirs['seconds'] / peer_rows:.1f}"
    return ["Lakefold, lle_transform in SQL", rate(count, answer), speed, "–", common.mebibytes(answer)]


def report(rows=None, peer_rows=4000, landmarks=2000, repeat=3, skip_ours=False, sql=None):
    X, note = common.debian(rows)
    count = len(X) - landmarks
    options = {"n_neighbors": 12, "n_components": 16, "landmarks": landmarks, "rows": min(peer_rows, count)}
    theirs, placed = common.peer("transform", "debian", X, repeat=repeat, **options)
    lines = [["scikit-learn", rate(options["rows"], theirs), "1.0", processor(options["rows"], theirs), common.mebibytes(theirs)]]
    text = ""
    if not skip_ours and placed is not None:
        embedding, placed = placed[:landmarks], placed[landmarks:]
        path = common.saved("debian-landmark-embedding", np.ascontiguousarray(embedding))
        ours, our = common.ours("bench_transform", "debian", X, landmarks=landmarks, landmark_neighbors=12, embedding=path, repeat=repeat)
        if our is not None:
            speed = ours["rows_per_second"] * theirs["seconds"] / options["rows"]
            lines.append(["Lakefold", rate(count, ours), f"{speed:.1f}", processor(count, ours), common.mebibytes(ours)])
            product = {"seconds": count / ours["product_rows_per_second"]}
            lines.append(["the product alone", rate(count, product), "–", processor(count, ours, "product_cpu_seconds"), "–"])
            if sql is not None:
                lines.append(through_sql(sql, count, landmarks, repeat, theirs, options["rows"]))
            text = f"\nLakefold reaches {ours['share_of_product']:.2f} of the product alone. Against scikit-learn's rows: {difference(placed, our)}.\n"
    head = f"## Placing rows\n\n{note}; {landmarks:,} of them landmarks, {X.shape[1]} dimensions, 12 landmarks a row; best of {repeat}.\n\n"
    return head + common.table(["", "rows a second", "this / scikit-learn", "processor µs a row", "peak MiB"], lines) + "\n" + text


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int)
    parser.add_argument("--peer-rows", type=int, default=4000)
    parser.add_argument("--landmarks", type=int, default=2000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--skip-ours", action="store_true")
    parser.add_argument("--sql", help="lakefold's release binary, to measure lle_transform through SQL as well")
    args = parser.parse_args()
    if not args.skip_ours:
        common.build()
    print(report(args.rows, args.peer_rows, args.landmarks, args.repeat, args.skip_ours, args.sql))


if __name__ == "__main__":
    main()
