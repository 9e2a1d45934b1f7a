#!/usr/bin/env python3
"""How good embeddings are: Lakefold's defaults against PCA and against scikit-learn's grid of LLE parameters.

    python benches/peers/quality.py [--case debian-all|debian-5000|landmark-choice|fashion|hnsw]... [--reuse]
        [--rows N]

debian-all: every distinct vector, 16 components. debian-5000: 5,000 of them, on which scikit-learn runs 4 methods x
k 6, 12, 30 x reg 1e-3, 1e-1 (refused cells are shown as refused; --reuse takes its answers from an earlier run).
landmark-choice: every distinct vector again, 16 components, 30 neighbours, reg 1, 100 of 1,000 landmarks a row, the
landmarks chosen uniformly, by k-means++ and farthest first.
hnsw: 1,000,000 generated rows x 64 (or --rows), 16 components, landmarks solver: the neighbours of all rows through an
HNSW graph against the exact ones. Exact ones of so many rows take a quarter of an hour and more.
fashion: Fashion-MNIST's 60,000 training images; the 10,000 test images are placed by the model, and fitted together
with the others for comparison.

Trustworthiness: 12 neighbours, within a sample of 5,000 rows. Accuracy: the vote of the 10 nearest rows in the
standardised embedding; even rows train, 5,000 odd ones test. Both are means over the sample seeds 0 to 4.
"""

import argparse
import itertools

import common
import numpy as np

D, SEEDS = 16, range(5)


def quality(X, Y, labels):
    from sklearn.manifold import trustworthiness
    from sklearn.neighbors import KNeighborsClassifier

    def once(seed):
        rng = np.random.default_rng(seed)
        Z = (Y - Y.mean(0)) / Y.std(0)
        some = rng.choice(len(X), min(5000, len(X)), replace=False)
        even = np.arange(len(X)) % 2 == 0
        odd = np.flatnonzero(~even)
        test = rng.choice(odd, min(5000, len(odd)), replace=False)
        vote = KNeighborsClassifier(10).fit(Z[even], labels[even])
        return trustworthiness(X[some], Z[some], n_neighbors=12), vote.score(Z[test], labels[test])

    return np.mean([once(seed) for seed in SEEDS], axis=0)


def pca(X):
    from sklearn.decomposition import PCA

    return PCA(D, random_state=0).fit_transform(X)


def ours(name, X, **options):
    options = {"n_components": D, "n_neighbors": "auto", "reg": "auto"} | options
    return common.ours("bench_fit", name, X, **options)


def line(name, answer, scores):
    return [name, common.seconds(answer), common.mebibytes(answer)] + [f"{score:.4f}" for score in scores]


def chosen(answer):
    found = answer["diagnostics"]
    text = f"solver {found['solver']}, {found['n_neighbors']} neighbours, reg {found['reg']}"
    if found["landmarks"]:
        text += f", {found['landmarks']} landmarks, {found['landmark_neighbors']} a row"
    return text


HEADER = ["", "seconds", "peak MiB", "trustworthiness", "accuracy"]


def debian_all():
    X, labels, note = common.debian_with_labels()
    answer, Y = ours("debian-quality", X)
    lines = [line("Lakefold, defaults", answer, quality(X, Y, labels)), ["PCA", "", ""] + [f"{s:.4f}" for s in quality(X, pca(X), labels)]]
    return f"## Quality: {note}, {D} components\n\nLakefold chose: {chosen(answer)}.\n\n" + common.table(HEADER, lines) + "\n"


def debian_5000(reuse):
    X, labels, note = common.debian_with_labels(5000)
    lines = []
    grid = itertools.product(["standard", "modified", "hessian", "ltsa"], [6, 12, 30], [1e-3, 1e-1])
    best = np.zeros(2)
    for method, k, reg in grid:
        name = f"scikit-learn, {method}, k {k}, reg {reg}"
        answer, Y = common.peer("sklearn", "debian-5000", X, reuse, n_components=D, n_neighbors=k, reg=reg, method=method, solver="dense")
        if Y is None:
            lines.append([name, "refused: " + answer["error"].split(":", 1)[-1].strip(), "", "", ""])
            continue
        scores = quality(X, Y, labels)
        best = np.maximum(best, scores)
        lines.append(line(name, answer, scores))
    answer, Y = ours("debian-5000", X)
    lines.append(line("Lakefold, defaults", answer, quality(X, Y, labels)))
    lines.append(["best of scikit-learn, each column", "", ""] + [f"{score:.4f}" for score in best])
    lines.append(["PCA", "", ""] + [f"{score:.4f}" for score in quality(X, pca(X), labels)])
    return f"## Quality: {note}, {D} components\n\nLakefold chose: {chosen(answer)}.\n\n" + common.table(HEADER, lines) + "\n"


def fashion():
    from sklearn.neighbors import KNeighborsClassifier

    train, train_labels = common.fashion("train")
    test, test_labels = common.fashion("test")
    placed_file = common.work_directory() / "fashion-placed.npy"
    answer, Y = ours("fashion", train, transform=common.saved("fashion-test", test), transform_output=placed_file)
    placed = np.load(placed_file)
    together, both = ours("fashion-both", np.concatenate([train, test]))

    def accuracy(train_rows, test_rows):
        mean, deviation = train_rows.mean(0), train_rows.std(0)
        vote = KNeighborsClassifier(10).fit((train_rows - mean) / deviation, train_labels)
        return vote.score((test_rows - mean) / deviation, test_labels)

    lines = [line("Lakefold, defaults", answer, quality(train, Y, train_labels)), ["PCA", "", ""] + [f"{s:.4f}" for s in quality(train, pca(train), train_labels)]]
    text = f"## Quality: Fashion-MNIST, {len(train):,} × {train.shape[1]}, {D} components\n\nLakefold chose: {chosen(answer)}.\n\n"
    text += common.table(HEADER, lines) + "\n\n"
    n = len(train)
    text += (
        f"The {len(test):,} test images, placed by the model in {answer['transform_seconds']:.2f} s: accuracy {accuracy(Y, placed):.4f}. "
        f"Fitted together with the training images ({common.seconds(together)} s): {accuracy(both[:n], both[n:]):.4f}.\n"
    )
    return text


def landmark_choice():
    X, labels, note = common.debian_with_labels()
    options = {"n_neighbors": 30, "reg": 1, "solver": "landmarks", "n_landmarks": 1000, "landmark_neighbors": 100}
    lines = []
    for choice in ["uniform", "k-means++", "farthest"]:
        answer, Y = ours("debian-landmarks", X, landmark_choice=choice, **options)
        # Choosing landmarks and writing the rows in terms of them.
        phase = f"{answer['phases']['landmarks']:.2f}"
        lines.append([choice, common.seconds(answer), phase] + [f"{s:.4f}" for s in quality(X, Y, labels)])
    text = f"## Choice of landmarks: {note}, {D} components, 30 neighbours, reg 1, 1,000 landmarks, 100 a row\n\n"
    return text + common.table(["landmarks", "seconds", "of these landmarks", "trustworthiness", "accuracy"], lines) + "\n"


def bent(rows):
    """Fifty clusters of ten dimensions, bent into 64 by two layers, with noise."""
    rng = np.random.default_rng(0)
    centres = 3 * rng.standard_normal((50, 10), dtype=np.float32)[rng.integers(50, size=rows)]
    latent = rng.standard_normal((rows, 10), dtype=np.float32) + centres
    first = rng.standard_normal((10, 64), dtype=np.float32) / np.sqrt(10)
    second = rng.standard_normal((64, 64), dtype=np.float32) / 8
    return np.tanh(latent @ first) @ second + np.float32(0.05) * rng.standard_normal((rows, 64), dtype=np.float32)


def hnsw(rows):
    X = bent(rows)
    options = {"n_neighbors": 30, "reg": 1, "solver": "landmarks", "n_landmarks": 1000, "landmark_neighbors": 100}
    lines, scores = [], []
    for algorithm in ["exact", "hnsw"]:
        answer, Y = ours(f"bent-{algorithm}", X, neighbors_algorithm=algorithm, **options)
        if Y is None:
            lines.append([algorithm, common.seconds(answer), "", "", "", ""])
            continue
        recall = answer["diagnostics"]["neighbors_recall"]
        scores.append(trustworthiness_alone(X, Y))
        phases = answer["phases"]
        cells = [algorithm, common.seconds(answer), f"{phases['neighbours']:.1f}", common.mebibytes(answer)]
        lines.append(cells + ["1" if recall is None else f"{recall:.4f}", f"{scores[-1]:.4f}"])
    text = f"## Neighbours through a graph: {rows:,} generated rows × {X.shape[1]}, {D} components, 30 neighbours, 1,000 landmarks\n\n"
    text += common.table(["neighbours", "seconds", "of these neighbours", "peak MiB", "recall", "trustworthiness"], lines) + "\n"
    if len(scores) == 2:
        text += f"\nTrustworthiness differs by {abs(scores[0] - scores[1]):.4f}: {'within' if abs(scores[0] - scores[1]) <= 0.01 else 'NOT within'} 0.01.\n"
    return text


def trustworthiness_alone(X, Y):
    from sklearn.manifold import trustworthiness

    def once(seed):
        some = np.random.default_rng(seed).choice(len(X), min(5000, len(X)), replace=False)
        return trustworthiness(X[some], Y[some] / Y.std(0), n_neighbors=12)

    return float(np.mean([once(seed) for seed in SEEDS]))


CASES = {
    "debian-all": lambda reuse: debian_all(),
    "debian-5000": debian_5000,
    "landmark-choice": lambda reuse: landmark_choice(),
    "fashion": lambda reuse: fashion(),
    "hnsw": lambda reuse, rows=1_000_000: hnsw(rows),
}
# Too long to be part of every run.
ALONE = {"hnsw"}


def report(case, reuse=False, **options):
    return CASES[case](reuse, **options)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", action="append", choices=list(CASES))
    parser.add_argument("--reuse", action="store_true")
    parser.add_argument("--rows", type=int, default=1_000_000, help="of the case hnsw")
    args = parser.parse_args()
    common.build()
    for case in args.case or [case for case in CASES if case not in ALONE]:
        options = {"rows": args.rows} if case == "hnsw" else {}
        print(report(case, args.reuse, **options), flush=True)


if __name__ == "__main__":
    main()
