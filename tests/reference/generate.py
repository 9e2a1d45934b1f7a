#!/usr/bin/env python3
"""Writes scikit-learn's answers that our tests compare with, as JSON files beside this script. For maintainers.

    make reference          (or: python tests/reference/generate.py)

Every input has one right answer: no duplicates, neighbours untied, eigenvalues apart, one closed component (two in the
cases that are about closed components). The script asserts it and prints the margins. README.md tells the format.
"""

import json
from pathlib import Path

import numpy as np
import scipy.linalg as la
import scipy.sparse as sp
import sklearn
from scipy.sparse.csgraph import connected_components, laplacian
from sklearn.datasets import load_digits, make_s_curve, make_swiss_roll
from sklearn.manifold import LocallyLinearEmbedding, SpectralEmbedding
from sklearn.manifold._locally_linear import barycenter_kneighbors_graph
from sklearn.neighbors import NearestNeighbors

HERE = Path(__file__).resolve().parent
# Inputs are whole numbers of this unit, so that any JSON reader gets the very same float64: integer / INPUT_SCALE.
INPUT_SCALE = 1_000_000
REG = 1e-3


def closed_components(J):
    """Strongly connected components of the directed graph: each row's label, the labels of those that no edge leaves,
    and the number of weakly connected components."""
    n, k = J.shape
    graph = sp.csr_matrix((np.ones(n * k), J.ravel(), np.arange(0, n * k + 1, k)), shape=(n, n))
    count, label = connected_components(graph, directed=True, connection="strong")
    source = np.repeat(label, k)
    leaves = np.zeros(count, bool)
    leaves[source[source != label[J.ravel()]]] = True
    weak = connected_components(graph, directed=False)[0]
    return label, np.flatnonzero(~leaves), weak


def graph_and_weights(X, k):
    """Neighbour lists (nearest first, self left out), W, and the smallest relative gap between neighbour k and k + 1."""
    assert len(np.unique(X, axis=0)) == len(X), "duplicate rows"
    J = NearestNeighbors(n_neighbors=k).fit(X).kneighbors(return_distance=False)
    distance = np.sort(((X[:, None, :] - X[None, :, :]) ** 2).sum(axis=2) + np.diag(np.full(len(X), np.inf)), axis=1)
    gap = (distance[:, k] / distance[:, k - 1] - 1).min()
    assert gap > 1e-9, f"tied neighbours: relative gap {gap:.1e}"
    return J, barycenter_kneighbors_graph(X, k, reg=REG), gap


def smallest_eigenvalues(W, count):
    A = np.eye(W.shape[0]) - W.toarray()
    return la.eigh(A.T @ A, eigvals_only=True, subset_by_index=[0, count - 1])


def fit(X, k, d, method="standard"):
    model = LocallyLinearEmbedding(n_neighbors=k, n_components=d, reg=REG, eigen_solver="dense", method=method)
    embedding = model.fit_transform(X)
    return {"n_components": d, "embedding": embedding.tolist(), "reconstruction_error": float(model.reconstruction_error_)}


def rows_that_are_neighbours(X, k):
    """The rows left when those that are nobody's neighbour are dropped until there are none, an even number. scikit-learn's
    LTSA has a null vector for each such row, and of an odd number its modified LLE lets rounding decide about one."""
    rows = np.arange(len(X))
    while True:
        J = NearestNeighbors(n_neighbors=k).fit(X[rows]).kneighbors(return_distance=False)
        known = np.bincount(J.ravel(), minlength=len(rows)) > 0
        if known.all() and len(rows) % 2 == 0:
            assert len(closed_components(J)[1]) == 1
            return rows, J
        rows = rows[known] if not known.all() else rows[:-1]


def hessian(X, J, d):
    """Donoho and Grimes 2003, section 5, word by word and dense. scikit-learn's keeps, of a full QR, all columns behind the
    tangent coordinates, not only those of the products, and equals its LTSA."""
    M = np.zeros((len(X), len(X)))
    for ids in J:
        U = np.linalg.svd(X[ids] - X[ids].mean(axis=0), full_matrices=False)[0][:, :d]
        products = [U[:, a] * U[:, b] for a in range(d) for b in range(a, d)]
        Q = np.linalg.qr(np.column_stack([np.ones(len(ids)), U, *products]))[0][:, d + 1 :]
        M[np.ix_(ids, ids)] += Q @ Q.T
    values, vectors = la.eigh(M, subset_by_index=[0, d])
    return {"n_components": d, "embedding": vectors[:, 1:].tolist(), "reconstruction_error": float(values[1:].sum())}


def variants(X, k, d):
    """The other methods, by scikit-learn's dense solver, and Hessian LLE by the paper."""
    rows, J = rows_that_are_neighbours(X, k)
    fits = [fit(X[rows], k, d, method) | {"method": method, "by": "scikit-learn"} for method in ("modified", "hessian", "ltsa")]
    errors = {f["method"]: f["reconstruction_error"] for f in fits}
    assert abs(errors["hessian"] / errors["ltsa"] - 1) < 1e-6
    fits.append(hessian(X[rows], J, d) | {"method": "hessian", "by": "NumPy"})
    print(f"    variants on {len(rows)} rows: {errors}, Hessian LLE by the paper {fits[-1]['reconstruction_error']}")
    return {"rows": rows.tolist(), "fits": fits}


def laplacian_eigenmaps(X, k, d):
    """scikit-learn counts a row among its own neighbours, and its graph's Laplacian forgets that edge again."""
    model = SpectralEmbedding(d, affinity="nearest_neighbors", n_neighbors=k + 1, random_state=0, eigen_solver="arpack")
    embedding = model.fit_transform(X)
    eigenvalues = la.eigh(laplacian(model.affinity_matrix_.toarray(), normed=True), eigvals_only=True, subset_by_index=[0, d + 1])
    assert (np.diff(eigenvalues) > 0.01 * eigenvalues[1:]).all(), f"eigenvalues too close: {eigenvalues}"
    print(f"    Laplacian eigenmaps: eigenvalues {eigenvalues}")
    return {"n_components": d, "eigenvalues": eigenvalues[1 : d + 1].tolist(), "embedding": embedding.tolist()}


def reference(name, units, k, dimensions, n_closed=1, n_weak=1):
    X = units / INPUT_SCALE
    J, W, tie_gap = graph_and_weights(X, k)
    label, closed, weak = closed_components(J)
    assert len(closed) == n_closed and weak == n_weak, f"{name}: {len(closed)} closed, {weak} weakly connected"
    eigenvalues = smallest_eigenvalues(W, max(dimensions) + 3)
    gaps = np.diff(eigenvalues[n_closed - 1 :]) / eigenvalues[n_closed:]
    assert n_closed > 1 or gaps[: max(dimensions) + 1].min() > 0.01, f"{name}: eigenvalues too close: {gaps}"
    print(f"{name}: {X.shape[0]} x {X.shape[1]}, k {k}, {len(closed)} closed components, {weak} weakly connected; smallest tie gap {tie_gap:.1e}")
    print(f"    eigenvalues {np.array2string(eigenvalues, precision=3)}, relative gaps {np.array2string(gaps, precision=3)}")
    rows = [0, 1, len(X) // 2, len(X) - 1]
    return {
        "scikit_learn": sklearn.__version__,
        "n_neighbors": k,
        "reg": REG,
        "input_scale": INPUT_SCALE,
        "input": units.tolist(),
        "neighbors": J.tolist(),
        "weights": [{"row": i, "neighbors": J[i].tolist(), "weights": W[i].toarray()[0, J[i]].tolist()} for i in rows],
        "eigenvalues": eigenvalues.tolist(),
        "fits": [fit(X, k, d) for d in dimensions],
    } | ({"laplacian": laplacian_eigenmaps(X, k, min(dimensions))} if n_weak == n_closed == 1 else {}) | ({"closed_components": [np.flatnonzero(label == c).tolist() for c in closed]} if n_closed > 1 else {})


def junk(record):
    """What scikit-learn makes of several closed components: how many null vectors, and how constant its columns are."""
    embedding = np.array(record["fits"][0]["embedding"])
    null = int((np.array(record["eigenvalues"]) < 1e-12).sum())
    spread = [float(max(np.ptp(embedding[rows, c]) for rows in record["closed_components"])) for c in range(null - 1)]
    assert null == len(record["closed_components"]) and max(spread) < 1e-6, (null, spread)
    print(f"    {null} null eigenvalues: {null - 1} of {embedding.shape[1]} columns constant on every closed component, spread {max(spread):.1e}")
    return {"null_eigenvalues": null, "junk_columns": null - 1, "largest_spread_within_component": spread}


def write(name, record):
    # One row of a table a line: the files can be read, and a change can be seen.
    text = json.dumps(record, separators=(",", ":")).replace("],[", "],\n[").replace(',"', ',\n"')
    (HERE / f"{name}.json").write_text(text + "\n")


def in_units(X):
    return np.round(X * INPUT_SCALE).astype(np.int64)


def seeded(make, k):
    """The first seed whose neighbour graph has one closed component, so that the embedding is determined."""
    for seed in range(100):
        units = in_units(make(seed))
        J = NearestNeighbors(n_neighbors=k).fit(units / INPUT_SCALE).kneighbors(return_distance=False)
        if len(closed_components(J)[1]) == 1:
            return seed, units
    raise AssertionError("no seed gives one closed component")


def jittered_digits():
    """Whole-number pixels tie (70 rows at k = 15); one jitter for both sides breaks the ties."""
    X = load_digits().data
    return in_units(X + np.random.default_rng(0).normal(scale=1e-4, size=X.shape))


def three_clusters():
    rng = np.random.default_rng(0)
    centres = 100 * np.eye(5)[:3]
    return in_units(np.concatenate([centre + rng.normal(size=(40, 5)) for centre in centres]))


def tiny_component():
    """One weakly connected graph with two closed components: a plane of 200 points, 7 points beside it that know only
    each other, and one point between that has neighbours on both sides and is nobody's neighbour."""
    rng = np.random.default_rng(0)
    plane = np.column_stack([rng.uniform(0, 1, size=(200, 2)), np.zeros(200)])
    tiny = np.array([1.6, 0.5, 0.0]) + rng.normal(scale=0.01, size=(7, 3))
    return in_units(np.concatenate([plane, tiny, [[1.27, 0.5, 0.0]]]))


def main():
    for name, make in {"swiss_roll": make_swiss_roll, "s_curve": make_s_curve}.items():
        seed, units = seeded(lambda seed, make=make: make(1500, noise=0.0, random_state=seed)[0], 12)
        write(name, reference(name, units, 12, [2]) | {"seed": seed, "variants": variants(units / INPUT_SCALE, 12, 2)})
    units = jittered_digits()
    write("digits", reference("digits", units, 15, [2, 5]) | {"variants": variants(units / INPUT_SCALE, 15, 2)})
    record = reference("three_clusters", three_clusters(), 6, [4], n_closed=3, n_weak=3)
    write("three_clusters", record | junk(record))
    record = reference("tiny_component", tiny_component(), 6, [3], n_closed=2, n_weak=1)
    write("tiny_component", record | junk(record))


if __name__ == "__main__":
    main()
