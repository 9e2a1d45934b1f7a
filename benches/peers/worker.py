#!/usr/bin/env python3
"""One peer, one job, one process, so that its peak memory is its own. Prints one JSON line.

    python worker.py sklearn --input X.npy --n-components 2 --n-neighbors 12 --reg 1e-3 --solver arpack --output Y.npy
    python worker.py faiss --input X.npy --n-neighbors 12 --output J.npy
    python worker.py transform --input X.npy --landmarks 2000 --rows 4000 --n-components 16 --n-neighbors 12 --output Y.npy

Only the fit (or the search, or the placing of rows) is timed: importing the peer and reading the file are not.
"""

import argparse
import json
import os
import time

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("peer", choices=["sklearn", "faiss", "transform"])
parser.add_argument("--input", required=True)
parser.add_argument("--output", required=True)
parser.add_argument("--n-neighbors", type=int, default=12)
parser.add_argument("--n-components", type=int, default=2)
parser.add_argument("--reg", type=float, default=1e-3)
parser.add_argument("--solver", default="arpack")
parser.add_argument("--method", default="standard")
parser.add_argument("--landmarks", type=int, default=2000)
parser.add_argument("--rows", type=int, default=4000)
parser.add_argument("--repeat", type=int, default=1)
parser.add_argument("--threads", type=int, default=2)
args = parser.parse_args()

# Before any import that starts a thread pool.
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = str(args.threads)

import numpy as np  # noqa: E402
from threadpoolctl import threadpool_limits  # noqa: E402


def peak_rss_bytes():
    """VmHWM, not ru_maxrss: the latter starts a child at the memory of the process that spawned it."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))


def fit_sklearn(X):
    from sklearn.manifold import LocallyLinearEmbedding

    model = LocallyLinearEmbedding(
        n_neighbors=args.n_neighbors,
        n_components=args.n_components,
        reg=args.reg,
        eigen_solver=args.solver,
        method=args.method,
        random_state=0,
        n_jobs=args.threads,
    )
    started = time.perf_counter()
    Y = model.fit_transform(X)
    return time.perf_counter() - started, Y


def search_faiss(X):
    import faiss

    faiss.omp_set_num_threads(args.threads)
    warm_up = faiss.IndexFlatL2(X.shape[1])
    warm_up.add(X[:1000])
    warm_up.search(X[:1000], args.n_neighbors + 1)
    started = time.perf_counter()
    index = faiss.IndexFlatL2(X.shape[1])
    index.add(X)
    _, found = index.search(X, args.n_neighbors + 1)
    # Self is left out by id; a row whose own id was crowded out loses its farthest hit.
    mask = found != np.arange(len(X))[:, None]
    mask[mask.all(axis=1), -1] = False
    return time.perf_counter() - started, found[mask].reshape(len(X), args.n_neighbors)


def transform_sklearn(X):
    """Fits the first rows, places those after them; the fit's embedding, then the placed rows."""
    from sklearn.manifold import LocallyLinearEmbedding

    model = LocallyLinearEmbedding(
        n_neighbors=args.n_neighbors, n_components=args.n_components, reg=args.reg, eigen_solver="dense", random_state=0, n_jobs=args.threads
    )
    model.fit(X[: args.landmarks])
    rows, best = X[args.landmarks : args.landmarks + args.rows], (np.inf, np.inf)
    for _ in range(args.repeat):
        started, cpu = time.perf_counter(), time.process_time()
        placed = model.transform(rows)
        best = min(best, (time.perf_counter() - started, time.process_time() - cpu))
    return best, np.vstack([model.embedding_, placed])


X = np.load(args.input)
with threadpool_limits(args.threads):
    answer = {}
    if args.peer == "sklearn":
        answer["seconds"], result = fit_sklearn(X)
    elif args.peer == "faiss":
        answer["seconds"], result = search_faiss(np.ascontiguousarray(X, np.float32))
    else:
        (answer["seconds"], answer["cpu_seconds"]), result = transform_sklearn(X)
answer["peak_rss_bytes"] = peak_rss_bytes()
np.save(args.output, result)
print(json.dumps(answer))
