"""What the peer comparisons share: data, running both sides, and judging two embeddings by one measure."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import scipy.linalg as la
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components

REPO = Path(__file__).resolve().parents[2]
SHARED = REPO.parent / "shared" / "data" / "debian_packages.parquet"
SAMPLE = REPO / "sample_data" / "debian_packages.parquet"
THREADS = 2


def target_directory():
    found = subprocess.run(["cargo", "metadata", "--format-version=1", "--no-deps"], cwd=REPO, check=True, capture_output=True)
    return Path(json.loads(found.stdout)["target_directory"])


def work_directory():
    path = REPO / "target" / "peers"
    path.mkdir(parents=True, exist_ok=True)
    return path


# Data


def debian(rows=None):
    """Distinct Debian vectors in a seeded order, and a note on which file they came from."""
    X, _, note = debian_with_labels(rows)
    return X, note


def debian_with_labels(rows=None):
    """The same, with the section of each row's first package between the two."""
    import pyarrow.parquet as pq

    path = SHARED if SHARED.exists() else SAMPLE
    table = pq.read_table(path, columns=["embedding", "section"])
    column = table["embedding"].combine_chunks()
    X = np.ascontiguousarray(column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), -1), np.float32)
    _, ids = np.unique(X, axis=0, return_index=True)
    ids = np.random.default_rng(0).permutation(ids)[:rows]
    note = f"{len(ids):,} distinct rows of {path.name}"
    if path == SAMPLE:
        note += " (only the 5,000-row sample: the whole table is not beside this checkout)"
    return X[ids], np.array(table["section"].to_pylist())[ids], note


def fashion(part):
    """Fashion-MNIST's "train" or "test" images as float32 rows, and their labels."""
    import pyarrow.parquet as pq

    table = pq.read_table(SHARED.with_name(f"fashion_mnist_{part}.parquet"), columns=["pixels", "label"])
    column = table["pixels"].combine_chunks()
    X = np.ascontiguousarray(column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), -1), np.float32)
    return X, table["label"].to_numpy()


def swiss_roll(rows):
    from sklearn.datasets import make_swiss_roll

    return make_swiss_roll(rows, noise=0.0, random_state=0)[0]


def digits():
    """Digits with one seeded jitter: whole-number pixels tie, and each side would break ties its own way."""
    from sklearn.datasets import load_digits

    X = load_digits().data
    return X + np.random.default_rng(0).normal(scale=1e-4, size=X.shape)


# Running


def run(command, limit=None):
    """The last JSON line of a program, or its error. One that is not through in `limit` seconds is ended, and what it told
    until then counts."""
    # OpenBLAS takes its thread count from the environment, on both sides.
    env = dict(os.environ, OMP_NUM_THREADS=str(THREADS), OPENBLAS_NUM_THREADS=str(THREADS))
    try:
        done = subprocess.run([str(part) for part in command], cwd=REPO, capture_output=True, text=True, env=env, timeout=limit)
    except subprocess.TimeoutExpired as cut:
        lines = (cut.stdout or b"").decode().strip().splitlines()
        return dict(json.loads(lines[-1]) if lines else {}, cut=f"ended after {limit} s")
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no message"]
        return {"error": lines[-1]}
    return json.loads(done.stdout.strip().splitlines()[-1])


def run_raw(command):
    """Runs a program that prints no JSON: its seconds, peak memory, processor time and messages, or its error."""
    command = [str(part) for part in command]
    started = time.perf_counter()
    with subprocess.Popen(command, cwd=REPO, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        messages = list(process.stderr)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = status
    elapsed = time.perf_counter() - started
    if status:
        return {"error": messages[-1].strip() if messages else "no message"}
    peak, processor = usage.ru_maxrss * 1024, usage.ru_utime + usage.ru_stime
    return {"seconds": elapsed, "peak_rss_bytes": peak, "processor": processor, "messages": messages}


def added_by(binary, create, query, repeat, times=8):
    """Seconds that one more run of a query adds to a process that made its tables before, the fastest processes of `repeat`
    with one run and with `times` more compared, and the larger one's peak memory."""
    def fastest(count):
        answers = [run_raw([binary, "sql", "-q", "-c", create, *["-c", query] * count]) for _ in range(repeat)]
        return next((a for a in answers if "error" in a), None) or min(answers, key=lambda a: a["seconds"])

    one, many = fastest(1), fastest(1 + times)
    if "error" in one or "error" in many:
        return one if "error" in one else many
    return {"seconds": (many["seconds"] - one["seconds"]) / times, "peak_rss_bytes": many["peak_rss_bytes"]}


def saved(name, X):
    path = work_directory() / f"{name}.npy"
    np.save(path, X)
    return path


def peer(kind, name, X, reuse=False, **options):
    """Runs worker.py; returns its JSON and its result, None where it failed. `reuse` takes an earlier run's answer."""
    label = "-".join([kind, name] + [f"{key}{value}" for key, value in sorted(options.items())])
    output, record = work_directory() / f"{label}.out.npy", work_directory() / f"{label}.json"
    if not (reuse and record.exists()):
        command = [sys.executable, Path(__file__).with_name("worker.py"), kind, "--input", saved(name, X)]
        command += ["--output", output, "--threads", THREADS]
        for key, value in options.items():
            command += [f"--{key.replace('_', '-')}", value]
        record.write_text(json.dumps(run(command)))
    answer = json.loads(record.read_text())
    return answer, None if "error" in answer else np.load(output)


def build():
    subprocess.run(["cargo", "build", "--release", "--workspace"], cwd=REPO, check=True)


def ours(binary, name, X, **options):
    """Runs one of our programs; returns its JSON and its result, None where it failed."""
    output = work_directory() / f"ours-{binary}-{name}.out.npy"
    command = [target_directory() / "release" / binary, "--input", saved(name, X), "--output", output]
    for key, value in options.items():
        command += [f"--{key.replace('_', '-')}", value]
    answer = run(command + (["--threads", THREADS] if binary == "bench_fit" else []))
    return answer, None if "error" in answer else np.load(output)


# Judging


def neighbour_lists(X, n_neighbors):
    """The exact nearest other rows, in float64."""
    from sklearn.neighbors import NearestNeighbors

    return NearestNeighbors(n_neighbors=n_neighbors, n_jobs=THREADS).fit(X.astype(np.float64)).kneighbors(return_distance=False)


def barycentre_weights(X, J, reg, block=4096):
    """W, rows summing to one: the plain weights that both sides are judged by."""
    n, k = J.shape
    values = np.empty(J.shape)
    for a in range(0, n, block):
        D = X[J[a : a + block]].astype(np.float64) - X[a : a + block, None, :].astype(np.float64)
        G = D @ D.transpose(0, 2, 1)
        trace = np.trace(G, axis1=1, axis2=2)
        G[:, range(k), range(k)] += np.where(trace > 0, reg * trace, reg)[:, None]
        w = np.linalg.solve(G, np.ones((len(G), k, 1)))[..., 0]
        values[a : a + block] = w / w.sum(1, keepdims=True)
    return sp.csr_matrix((values.ravel(), J.ravel(), np.arange(0, n * k + 1, k)), shape=(n, n))


def closed_components(J):
    """Strongly connected components of the directed neighbour graph, and the labels of those that no edge leaves."""
    n, k = J.shape
    graph = sp.csr_matrix((np.ones(n * k), J.ravel(), np.arange(0, n * k + 1, k)), shape=(n, n))
    count, label = connected_components(graph, directed=True, connection="strong")
    source = np.repeat(label, k)
    leaves = np.zeros(count, bool)
    leaves[source[source != label[J.ravel()]]] = True
    return label, np.flatnonzero(~leaves)


def bridge(X, J):
    """Until the largest component is the only closed one, members of the others swap their farthest neighbour for the nearest row outside."""
    from sklearn.neighbors import NearestNeighbors

    X, J = X.astype(np.float64), J.copy()
    ascending = np.lexsort(X.T[::-1])
    while True:
        label, closed = closed_components(J)
        # Of two as large, the one with the smallest row.
        keep = label[ascending[np.argmax(np.bincount(label)[label][ascending])]]
        if np.array_equal(closed, [keep]):
            return J
        for c in closed[closed != keep]:
            members, others = np.flatnonzero(label == c), np.flatnonzero(label != c)
            nearest = NearestNeighbors(n_neighbors=1).fit(X[others]).kneighbors(X[members], return_distance=False)[:, 0]
            J[members, -1] = others[nearest]


def orthonormal(Y):
    """Centred, with YᵀY = n·I: the constraint under which Roweis and Saul minimise."""
    Y = Y - Y.mean(axis=0)
    return np.linalg.qr(Y)[0] * np.sqrt(len(Y))


def objective(W, Y):
    """‖(I−W)Y‖² of the orthonormalised embedding."""
    Y = orthonormal(Y)
    return float(((Y - W @ Y) ** 2).sum())


def per_column(W, Y):
    """For each column: its Rayleigh quotient, and the effective number of rows that carry its variance."""
    Y = Y - Y.mean(axis=0)
    square = (Y**2).sum(axis=0)
    residual = Y - W @ Y
    return (residual**2).sum(axis=0) / square, square**2 / (Y**4).sum(axis=0)


def largest_angle(Y1, Y2):
    """In radians."""
    return float(la.subspace_angles(orthonormal(Y1), orthonormal(Y2)).max())


# Telling


def table(header, rows):
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows])


def seconds(answer):
    return "failed: " + answer["error"] if "error" in answer else f"{answer['seconds']:.{1 if answer['seconds'] >= 10 else 2}f}"


def mebibytes(answer):
    return "–" if answer is None or "error" in answer else f"{answer['peak_rss_bytes'] / 2**20:,.0f}"


def ratio(theirs, our):
    return "–" if "error" in theirs or "error" in our else f"{theirs['seconds'] / our['seconds']:.1f}"
