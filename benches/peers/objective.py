#!/usr/bin/env python3
"""Is the minimum reached? ‖(I−W)Y‖² of both sides under one W, on digits and swiss rolls of 2,000 to 100,000 points.

    python benches/peers/objective.py [--case digits|swiss-2000|...]... [--skip-ours] [--reuse]

k = 12, reg = 0.001, 2 components. W: plain barycentre weights of the exact neighbours, computed here in float64.
Y: centred and orthonormalised to YᵀY = n·I. Residual: ‖MY − Y·(YᵀMY/n)‖ / √n with M = (I−W)ᵀ(I−W), which is 0 for an
invariant subspace and of the order of rounding errors (1e-16·‖M‖) for the best that float64 can hold.
"""

import argparse

import numpy as np

import common

K, REG, D = 12, 1e-3, 2
BOTH = ["dense", "arpack"]
CASES = {
    "digits": (common.digits, BOTH),
    "swiss-2000": (lambda: common.swiss_roll(2_000), BOTH),
    "swiss-10000": (lambda: common.swiss_roll(10_000), BOTH),
    "swiss-50000": (lambda: common.swiss_roll(50_000), ["arpack"]),
    "swiss-100000": (lambda: common.swiss_roll(100_000), ["arpack"]),
}


def residual(W, Y):
    Q = common.orthonormal(Y) / np.sqrt(len(Y))
    R = Q - W @ Q
    MQ = R - W.T @ R
    return float(np.linalg.norm(MQ - Q @ (Q.T @ MQ)))


def rows(case, skip_ours, reuse):
    make, solvers = CASES[case]
    X = make()
    J = common.neighbour_lists(X, K)
    W = common.barycentre_weights(X, J, REG)
    closed = len(common.closed_components(J)[1])
    options = dict(n_components=D, n_neighbors=K, reg=REG)
    sides = {f"scikit-learn, {solver}": common.peer("sklearn", case, X, reuse, solver=solver, **options) for solver in solvers}
    if not skip_ours:
        sides["Lakefold"] = common.ours("bench_fit", case, X, solver="exact", **options)
    values = {side: common.objective(W, Y) for side, (_, Y) in sides.items() if Y is not None}
    best = min((side for side in values if side != "Lakefold"), key=values.get, default=None)
    for side, (answer, Y) in sides.items():
        line = [case, f"{len(X):,}", closed, side, common.seconds(answer)]
        if Y is None:
            yield line + ["–"] * 4
            continue
        change, angle = "–", "–"
        if best is not None and side != best:
            change = f"{values[side] / values[best] - 1:+.1e}"
            angle = f"{common.largest_angle(sides[best][1], Y):.1e}"
        yield line + [f"{values[side]:.10e}", change, angle, f"{residual(W, Y):.1e}"]


def report(cases=CASES, skip_ours=False, reuse=False):
    lines = [line for case in cases for line in rows(case, skip_ours, reuse)]
    header = ["", "rows", "closed components", "", "seconds", "‖(I−W)Y‖²", "against the best of scikit-learn", "largest angle (rad)", "residual"]
    return "## The objective under one W\n\n" + common.table(header, lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", action="append", choices=list(CASES))
    parser.add_argument("--skip-ours", action="store_true")
    parser.add_argument("--reuse", action="store_true")
    args = parser.parse_args()
    if not args.skip_ours:
        common.build()
    print(report(args.case or CASES, args.skip_ours, args.reuse))


if __name__ == "__main__":
    main()
