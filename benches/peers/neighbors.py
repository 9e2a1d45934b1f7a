#!/usr/bin/env python3
"""Exact self-join, k = 12, of the distinct Debian vectors (384 dimensions): FAISS's IndexFlatL2 against ours.

    python benches/peers/neighbors.py [--rows N] [--repeat 3] [--skip-ours]

Both sides run in turn, each in its own process; the fastest run of each counts. Rows in which the two differ are
judged by distances in float64.
"""

import argparse

import numpy as np

import common


def distances(X, rows, J):
    D = X[J[rows]].astype(np.float64) - X[rows, None, :].astype(np.float64)
    return np.sort((D**2).sum(axis=2), axis=1)


def disagreement(X, theirs, our):
    """Rows with different neighbour sets, and in how many of them each side returned something farther than the other."""
    rows = np.flatnonzero((np.sort(theirs, axis=1) != np.sort(our, axis=1)).any(axis=1))
    if len(rows) == 0:
        return "the same neighbours in every row"
    a, b = distances(X, rows, theirs).sum(axis=1), distances(X, rows, our).sum(axis=1)
    return f"{len(rows):,} rows differ; in float64 FAISS is farther in {(a > b).sum():,}, ours in {(b > a).sum():,}"


def report(rows=None, repeat=3, skip_ours=False):
    X, note = common.debian(rows)
    best = {}
    results = {}
    for _ in range(repeat):
        sides = {"FAISS IndexFlatL2": lambda: common.peer("faiss", "debian", X, n_neighbors=12)}
        if not skip_ours:
            sides["Lakefold"] = lambda: common.ours("bench_neighbors", "debian", X, n_neighbors=12)
        for side, go in sides.items():
            answer, found = go()
            if side not in best or answer.get("seconds", np.inf) < best[side].get("seconds", np.inf):
                best[side] = answer
            results[side] = found
    faiss = best["FAISS IndexFlatL2"]
    lines = [[side, common.seconds(a), common.ratio(faiss, a), common.mebibytes(a)] for side, a in best.items()]
    text = f"## Exact neighbours, k = 12\n\n{note}, {X.shape[1]} dimensions; best of {repeat}.\n\n"
    text += common.table(["", "seconds", "FAISS's time / this", "peak MiB"], lines) + "\n"
    if len(results) == 2 and all(found is not None for found in results.values()):
        text += f"\nAgreement: {disagreement(X, results['FAISS IndexFlatL2'], results['Lakefold'].astype(np.int64))}.\n"
    return text


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--skip-ours", action="store_true")
    args = parser.parse_args()
    if not args.skip_ours:
        common.build()
    print(report(args.rows, args.repeat, args.skip_ours))


if __name__ == "__main__":
    main()
