#!/usr/bin/env python3
"""HNSW: recall@10 against queries a second, and seconds of building, beside hnswlib and FAISS.

    python benches/peers/hnsw.py [--data fashion debian] [--m 24 16] [--repeat 3] [--sides lakefold hnswlib faiss]
    python benches/peers/hnsw.py --sides lakefold --storage f32                             # auto, f32 or int8
    python benches/peers/hnsw.py --data debian --m 24 --sides lakefold hnsw_rs hnsw_rs-own   # engines that were tried
    python benches/peers/hnsw.py --plot docs/hnsw.svg                                       # the curves as a picture

Fashion-MNIST's 10,000 test images among its 60,000 training images (784 dimensions), and 5,000 of the distinct Debian
vectors, held out, among the others (384). Euclidean distance, ef_construction 200, two threads on every side, each side
in its own process, the fastest of the repeated searches. Recall counts rows that are no farther than the tenth exact
neighbour in float64.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

import common

K = 10
EFS = [10, 20, 30, 40, 60, 80, 120, 200, 400]
HELD_OUT = 5000
WANTED = 0.99
NAMES = {"lakefold": "Lakefold", "hnswlib": "hnswlib", "faiss": "FAISS HNSW"}
# The crate hnsw_rs with its options, in the order in which they were tried. Not among the default sides: each takes minutes.
OWN = ["--distance", "own"]
HNSW_RS = {
    "hnsw_rs": [],
    "hnsw_rs-own": OWN,
    "hnsw_rs-scale": [*OWN, "--level-scale", "0.5"],
    "hnsw_rs-extend": [*OWN, "--extend-candidates"],
    "hnsw_rs-pruned": [*OWN, "--keep-pruned"],
    "hnsw_rs-serial": [*OWN, "--one-by-one"],
}
NAMES_OF_ALL = {**NAMES, **{side: side.replace("-", ", ") for side in HNSW_RS}}


def data(name):
    if name == "fashion":
        return common.fashion("train")[0], common.fashion("test")[0]
    X, _ = common.debian()
    return X[HELD_OUT:], X[:HELD_OUT]


def distances(X, Q, found):
    """In float64, a few queries at a time."""
    parts = []
    for start in range(0, len(Q), 500):
        rows = slice(start, start + 500)
        difference = X[found[rows]].astype(np.float64) - Q[rows, None].astype(np.float64)
        parts.append((difference**2).sum(axis=2))
    return np.vstack(parts)


def farthest(X, Q):
    """The distance of each query's k-th nearest row."""
    import faiss

    faiss.omp_set_num_threads(common.THREADS)
    index = faiss.IndexFlatL2(X.shape[1])
    index.add(X)
    # Some more than k: float32 may have misjudged the last ones.
    _, found = index.search(Q, K + 10)
    return np.sort(distances(X, Q, found), axis=1)[:, K - 1 : K]


def run(side, name, m, repeat, efs, storage, limit=None):
    work = common.work_directory()
    options = ["--input", work / f"hnsw-{name}.npy", "--queries", work / f"hnsw-{name}-queries.npy"]
    options += ["--output", work / f"hnsw-{side}-{name}-{m}", "--m", m, "--ef", ",".join(map(str, efs))]
    options += ["--repeat", repeat, "--threads", common.THREADS, "--k", K]
    program = common.target_directory() / "release" / "bench_hnsw"
    if side == "lakefold":
        return common.run([program, *options, "--storage", storage])
    if side in HNSW_RS:
        return common.run([program, *options, "--engine", "hnsw_rs", *HNSW_RS[side]], limit)
    return common.run([sys.executable, Path(__file__).with_name("hnsw_worker.py"), side, *options])


def rate_at(curve, wanted):
    """Queries a second at this recall: between two measured points, linear in the logarithm of what is missed."""
    for (recall, rate), (better, slower) in zip(curve, curve[1:]):
        if recall < wanted <= better:
            missed = [np.log(max(1 - r, 1e-6)) for r in (recall, better, wanted)]
            share = (missed[2] - missed[0]) / (missed[1] - missed[0])
            return float(np.exp(np.log(rate) + share * (np.log(slower) - np.log(rate))))
    return None


def point(curve, i):
    return f"{curve[i][0]:.4f} at {curve[i][1]:,.0f}" if i < len(curve) else "–"


def report(name, m, sides, repeat, efs, storage, limit):
    X, Q = data(name)
    work = common.work_directory()
    common.saved(f"hnsw-{name}", X)
    common.saved(f"hnsw-{name}-queries", Q)
    bound = farthest(X, Q)
    answers, curves = {}, {}
    for side in sides:
        answers[side] = run(side, name, m, repeat, efs, storage, limit)
        if "error" in answers[side]:
            raise SystemExit(f"{side}: {answers[side]['error']}")
        curves[side] = []
        for search in answers[side].get("searches", []):
            found = np.load(work / f"hnsw-{side}-{name}-{m}.{search['ef']}.npy")
            recall = float((distances(X, Q, found) <= bound).mean())
            curves[side].append((recall, search["queries_per_second"]))
    peer = answers.get("hnswlib", {}).get("build_seconds")
    peer_rate = rate_at(curves["hnswlib"], WANTED) if "hnswlib" in curves else None
    lines = []
    for side in sides:
        seconds, rate = answers[side].get("build_seconds"), rate_at(curves[side], WANTED)
        line = [NAMES_OF_ALL[side], f"{seconds:.1f}" if seconds else "–", f"{seconds / peer:.2f}" if seconds and peer else "–"]
        line += [f"{rate:,.0f}" if rate else "–"]
        unreachable = answers[side].get("unreachable", "–")
        lines.append(line + [f"{rate / peer_rate:.2f}" if rate and peer_rate else "–", unreachable])
    text = f"### {name}, M {m}: {len(X):,} × {X.shape[1]}, {len(Q):,} queries\n\n"
    text += common.table(["", "seconds to build", "/ hnswlib's", f"queries/s at recall {WANTED}", "/ hnswlib's", "unreachable"], lines)
    points = [[ef, *(point(curves[side], i) for side in sides)] for i, ef in enumerate(efs)]
    text += "\n\nRecall@10 at queries a second:\n\n" + common.table(["ef", *(NAMES_OF_ALL[side] for side in sides)], points) + "\n"
    for side in sides:
        if "cut" in answers[side]:
            text += f"\n{NAMES_OF_ALL[side]}: {answers[side]['cut']}.\n"
        if "audit" in answers[side]:
            text += f"\n{NAMES_OF_ALL[side]}: {answers[side]['audit']}\n"
        if answers[side].get("storing_seconds"):
            text += f"Judging and making codes took {answers[side]['storing_seconds']:.1f} s more.\n"
    return text, curves


def plot(path, all_curves):
    """Queries a second against recall@10, one panel a data set."""
    import matplotlib

    matplotlib.use("svg")
    # The same bytes for the same figures.
    matplotlib.rcParams.update({"svg.hashsalt": "lakefold", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(all_curves), figsize=(4.2 * len(all_curves), 3.2), squeeze=False, layout="constrained")
    for axis, (title, curves) in zip(axes[0], all_curves.items()):
        for side, curve in curves.items():
            if not curve:
                continue
            recall, rate = zip(*curve)
            axis.plot(recall, rate, marker="o", markersize=3, label=NAMES_OF_ALL[side])
        axis.set(title=title, xlabel="recall@10", ylabel="queries a second", yscale="log", xlim=(0.9, 1.001))
        axis.grid(alpha=0.3, which="both", linewidth=0.5)
        axis.axvline(WANTED, color="grey", linewidth=0.8, linestyle=":")
        axis.legend(frameon=False)
    figure.savefig(path, metadata={"Date": None})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=["fashion", "debian"], choices=["fashion", "debian"])
    parser.add_argument("--m", nargs="+", type=int, default=[24, 16])
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--sides", nargs="+", default=list(NAMES), choices=list(NAMES_OF_ALL))
    parser.add_argument("--storage", default="auto", choices=["auto", "f32", "int8"], help="as what Lakefold keeps the vectors")
    parser.add_argument("--ef", nargs="+", type=int, default=EFS)
    parser.add_argument("--limit", type=float, default=900, help="seconds that a side of hnsw_rs may take")
    parser.add_argument("--plot", type=Path, help="an SVG file for the curves")
    parser.add_argument("--skip-build", action="store_true", help="the program is built already")
    args = parser.parse_args()
    if not args.skip_build:
        common.build()
    curves = {}
    for name in args.data:
        for m in args.m:
            text, curves[f"{name}, M {m}"] = report(name, m, args.sides, args.repeat, sorted(args.ef), args.storage, args.limit)
            print(text, flush=True)
    if args.plot:
        plot(args.plot, curves)


if __name__ == "__main__":
    main()
