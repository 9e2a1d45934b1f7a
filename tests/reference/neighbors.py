#!/usr/bin/env python3
"""Writes neighbors.json: nearest rows of the digits by three metrics, from scikit-learn's brute force, SciPy and NumPy. For
maintainers: run it after generate.py, as python tests/reference/neighbors.py. README.md tells the format.
"""

import json
from pathlib import Path

import numpy as np
import sklearn
from scipy.spatial.distance import cdist
from sklearn.neighbors import NearestNeighbors

HERE = Path(__file__).resolve().parent
K = 10
BASE = 1200
STEP = 60


def distances(queries, base, metric):
    return queries @ base.T if metric == "inner_product" else cdist(queries, base, {"l2": "euclidean"}.get(metric, metric))


def nearest(queries, base, metric, k):
    if metric == "inner_product":
        return np.argsort(-distances(queries, base, metric), axis=1, kind="stable")[:, :k]
    search = NearestNeighbors(n_neighbors=k, algorithm="brute", metric={"l2": "euclidean"}.get(metric, metric))
    return search.fit(base).kneighbors(queries, return_distance=False)


def table(queries, base, metric, own=None):
    """K rows of base for each query, without the query's own row."""
    found = nearest(queries, base, metric, K + 1)
    if own is not None:
        found = np.array([row[row != i][:K] for row, i in zip(found, own)])
    found = found[:, :K]
    values = np.take_along_axis(distances(queries, base, metric), found, axis=1)
    gaps = np.abs(np.diff(values, axis=1))
    assert gaps.min() > 1e-12, f"{metric} has ties"
    return {"ids": found.tolist(), "distances": values.tolist()}


def main():
    record = json.loads((HERE / "digits.json").read_text())
    X = np.array(record["input"]) / record["input_scale"]
    own, others = np.arange(0, len(X), STEP), np.arange(BASE, len(X), STEP)
    result = {"scikit_learn": sklearn.__version__, "n_neighbors": K, "base": BASE, "within_rows": own.tolist(), "across_rows": others.tolist()}
    for metric in ("l2", "cosine", "inner_product"):
        result[metric] = {"within": table(X[own], X, metric, own), "across": table(X[others], X[:BASE], metric)}
    text = json.dumps(result, separators=(",", ":")).replace("],[", "],\n[").replace(',"', ',\n"')
    (HERE / "neighbors.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
