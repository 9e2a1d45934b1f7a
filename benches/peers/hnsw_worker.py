#!/usr/bin/env python3
"""One peer's HNSW index, one process. Prints one JSON line: seconds of building, queries a second for each ef.

    python hnsw_worker.py hnswlib --input X.npy --queries Q.npy --output found --m 24 --ef 20,40,80

The neighbours for each ef go to OUTPUT.<ef>.npy.
"""

import argparse
import json
import os
import time

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("peer", choices=["hnswlib", "faiss"])
parser.add_argument("--input", required=True)
parser.add_argument("--queries", required=True)
parser.add_argument("--output", required=True)
parser.add_argument("--k", type=int, default=10)
parser.add_argument("--m", type=int, default=24)
parser.add_argument("--ef-construction", type=int, default=200)
parser.add_argument("--ef", default="64")
parser.add_argument("--repeat", type=int, default=3)
parser.add_argument("--threads", type=int, default=2)
args = parser.parse_args()

os.environ["OMP_NUM_THREADS"] = str(args.threads)

import numpy as np  # noqa: E402


def build_hnswlib(X):
    import hnswlib

    index = hnswlib.Index(space="l2", dim=X.shape[1])
    index.set_num_threads(args.threads)
    started = time.perf_counter()
    index.init_index(max_elements=len(X), M=args.m, ef_construction=args.ef_construction)
    index.add_items(X, num_threads=args.threads)
    seconds = time.perf_counter() - started

    def search(Q, ef):
        index.set_ef(ef)
        return index.knn_query(Q, args.k, num_threads=args.threads)[0]

    return seconds, search


def build_faiss(X):
    import faiss

    faiss.omp_set_num_threads(args.threads)
    index = faiss.IndexHNSWFlat(X.shape[1], args.m)
    index.hnsw.efConstruction = args.ef_construction
    started = time.perf_counter()
    index.add(X)
    seconds = time.perf_counter() - started

    def search(Q, ef):
        index.hnsw.efSearch = ef
        return index.search(Q, args.k)[1]

    return seconds, search


X, Q = np.load(args.input), np.load(args.queries)
seconds, search = {"hnswlib": build_hnswlib, "faiss": build_faiss}[args.peer](X)
searches = []
for ef in map(int, args.ef.split(",")):
    best = np.inf
    for _ in range(args.repeat):
        started = time.perf_counter()
        found = search(Q, ef)
        best = min(best, time.perf_counter() - started)
    np.save(f"{args.output}.{ef}.npy", found.astype(np.int64))
    searches.append({"ef": ef, "queries_per_second": len(Q) / best})
print(json.dumps({"build_seconds": seconds, "searches": searches}))
