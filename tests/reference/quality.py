#!/usr/bin/env python3
"""Writes quality.json: what scikit-learn and plain NumPy say about the embeddings that generate.py wrote, and about their
features. For maintainers: run it after generate.py, as python tests/reference/quality.py. README.md tells the format.
"""

import json
from pathlib import Path

import numpy as np
import sklearn
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.manifold import trustworthiness
from sklearn.manifold._locally_linear import barycenter_kneighbors_graph
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors
from sklearn.preprocessing import StandardScaler

HERE = Path(__file__).resolve().parent
REG = 1e-3


def read(name):
    """Features, and the embedding of each number of components with columns of variance 1."""
    record = json.loads((HERE / f"{name}.json").read_text())
    X = np.array(record["input"]) / record["input_scale"]
    return X, {fit["n_components"]: np.array(fit["embedding"]) * np.sqrt(len(X)) for fit in record["fits"]}


def neighbours(X, k):
    return NearestNeighbors(n_neighbors=k, algorithm="brute").fit(X).kneighbors(return_distance=False)


def quality(X, Y, k):
    shared = [len(set(a) & set(b)) for a, b in zip(neighbours(X, k), neighbours(Y, k))]
    W = barycenter_kneighbors_graph(X, k, reg=REG)
    return {
        "n_neighbors": k,
        "n_components": Y.shape[1],
        "trustworthiness": trustworthiness(X, Y, n_neighbors=k),
        "continuity": trustworthiness(Y, X, n_neighbors=k),
        "neighborhood_preservation": sum(shared) / (len(X) * k),
        "lle_objective": float(((Y - W @ Y) ** 2).sum() / len(X)),
        "reconstruction_error": np.linalg.norm(X - W @ X, axis=1)[:: len(X) // 50].tolist(),
    }


def two_nn(X, discard=0.1):
    """The slope through the origin of -ln(1 - F) over ln(r2 / r1) without the largest ratios, and its misfit."""
    distance = NearestNeighbors(n_neighbors=2, algorithm="brute").fit(X).kneighbors()[0]
    x = np.sort(np.log(distance[:, 1] / distance[:, 0]))
    used = int(len(X) * (1 - discard))
    x, y = x[:used], -np.log(1 - np.arange(1, used + 1) / len(X))
    slope = (x @ y) / (x @ x)
    return {"dimension": slope, "misfit": float(np.sqrt(((y - slope * x) ** 2).sum() / (y @ y)))}


def levina_bickel(X, k):
    distance = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(X).kneighbors()[0]
    return float(1 / np.log(distance[:, -1:] / distance[:, :-1]).mean())


def accuracy(Y, labels, k):
    Y = StandardScaler().fit_transform(Y)
    even = np.arange(len(Y)) % 2 == 0
    return KNeighborsClassifier(k).fit(Y[even], labels[even]).score(Y[~even], labels[~even])


def principal_components(X, rows, n_components):
    pca = PCA(n_components, svd_solver="full").fit(X[:rows])
    names = ["explained_variance_", "explained_variance_ratio_", "mean_", "components_"]
    scores = pca.transform(X[:3]).tolist()
    return {"rows": rows, "scores": scores} | {name.rstrip("_"): getattr(pca, name).tolist() for name in names}


def main():
    record = {"scikit_learn": sklearn.__version__, "reg": REG, "quality": {}, "dimension": {}}
    for name, sizes in {"digits": [5, 12, 40], "s_curve": [12], "swiss_roll": [12]}.items():
        X, embeddings = read(name)
        record["quality"][name] = [quality(X, Y, k) for Y in embeddings.values() for k in sizes]
        record["dimension"][name] = {"two_nn": two_nn(X), "levina_bickel": [[k, levina_bickel(X, k)] for k in (10, 20)]}
    X, embeddings = read("digits")
    labels = load_digits().target
    votes = [{"n_neighbors": k, "n_components": d, "accuracy": accuracy(Y, labels, k)} for d, Y in embeddings.items() for k in (1, 4, 10)]
    record["labels"] = {"digits": labels.tolist(), "votes": votes}
    record["pca"] = [principal_components(X, len(X), 6), principal_components(X, 40, 6)]
    text = json.dumps(record, separators=(",", ":")).replace("],[", "],\n[").replace(',"', ',\n"')
    (HERE / "quality.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
