#!/usr/bin/env python3
"""Whole LLE fits: scikit-learn's two solvers against ours, k = 12, reg = 0.001.

    python benches/peers/fit.py [--case debian-2|debian-16|swiss-100k|debian-all]... [--skip-slow] [--skip-ours] [--reuse]

Debian: 10,000 distinct vectors of 384 dimensions, 2 and 16 components, both of scikit-learn's solvers (the faster
one counts; --skip-slow leaves out the one that has always been slower). Swiss roll: 100,000 points; only ARPACK,
because the dense solver would need 80 GB. debian-all: every distinct vector, ours alone, with
the exact solver (scikit-learn's dense solver would need 29 GB, and its ARPACK is slower than dense on these graphs
already at 10,000). --reuse takes scikit-learn's answers from an earlier run.
"""

import argparse
import json

import common

K, REG = 12, 1e-3
CASES = {
    "debian-2": dict(rows=10_000, d=2, solvers=["dense", "arpack"], slow=["arpack"]),
    "debian-16": dict(rows=10_000, d=16, solvers=["dense", "arpack"], slow=["arpack"]),
    "swiss-100k": dict(rows=100_000, d=2, solvers=["arpack"], slow=[]),
    "debian-all": dict(rows=None, d=16, solvers=[], slow=[]),
}


def junk(W, Y, closed):
    """Dimensions that are null vectors of W's closed components; dimensions carried by under 0.5 % of the rows.

    A connected graph has none of the former, however small an honest eigenvalue gets (1e-13 on a fine roll).
    """
    quotient, carriers = common.per_column(W, Y)
    null = int((quotient < 1e-14).sum()) if closed > 1 else 0
    return null, int((carriers < 0.005 * len(Y)).sum())


def report(case, skip_slow=False, skip_ours=False, reuse=False):
    settings = CASES[case]
    d = settings["d"]
    X, note = common.debian(settings["rows"]) if case.startswith("debian") else (common.swiss_roll(settings["rows"]), "swiss roll")
    sides = {}
    for solver in settings["solvers"]:
        if not (skip_slow and solver in settings["slow"]):
            sides[f"scikit-learn, {solver}"] = common.peer("sklearn", case, X, reuse, n_components=d, n_neighbors=K, reg=REG, solver=solver)
    if not skip_ours:
        sides["Lakefold"] = common.ours("bench_fit", case, X, n_components=d, n_neighbors=K, reg=REG, solver="exact")
    J = common.neighbour_lists(X, K)
    closed = len(common.closed_components(J)[1])
    W = common.barycentre_weights(X, J, REG)
    bridged = common.barycentre_weights(X, common.bridge(X, J), REG) if closed > 1 else W
    ran = {side: answer for side, (answer, _) in sides.items() if side != "Lakefold" and "error" not in answer}
    fastest = min(ran, key=lambda side: ran[side]["seconds"]) if ran else None
    lines = []
    for side, (answer, Y) in sides.items():
        line = [side, common.seconds(answer), common.ratio(ran[fastest], answer) if fastest else "–", common.mebibytes(answer)]
        if Y is None:
            lines.append(line + ["–"] * 5)
            continue
        null, local = junk(W, Y, closed)
        angle = "–" if fastest is None or side == fastest else f"{common.largest_angle(sides[fastest][1], Y):.1e}"
        lines.append(line + [f"{common.objective(W, Y):.6e}", f"{common.objective(bridged, Y):.6e}", angle, f"{null} of {d}", f"{local} of {d}"])
    header = ["", "seconds", "fastest scikit-learn / this", "peak MiB", "‖(I−W)Y‖²", "bridged", "largest angle (rad)", "null dimensions", "carried by < 0.5 % of rows"]
    text = f"## Whole fit: {case}\n\n{note}, {len(X):,} × {X.shape[1]}, {d} components, k = {K}, reg = {REG}. "
    text += f"The plain neighbour graph has {closed} closed component{'s' * (closed != 1)}"
    if closed > 1:
        text += (
            f": W has {closed} null vectors, and an unbridged LLE spends {min(closed - 1, d)} of its {d} dimensions on them, whatever the "
            "rest of the data says. Lakefold bridges the components, so it solves another problem: its objective counts under the bridged "
            "W (each member of a closed component swaps its farthest neighbour for the nearest row outside)"
        )
    text += ".\n\n" + common.table(header, lines) + "\n"
    if not skip_ours and "error" not in sides["Lakefold"][0]:
        answer = sides["Lakefold"][0]
        phases = ", ".join(f"{phase} {taken:.2f} s" for phase, taken in answer.get("phases", {}).items())
        text += f"\nLakefold's phases: {phases}. Diagnostics: `{json.dumps(answer.get('diagnostics'))}`\n"
    return text


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", action="append", choices=list(CASES))
    parser.add_argument("--skip-slow", action="store_true")
    parser.add_argument("--skip-ours", action="store_true")
    parser.add_argument("--reuse", action="store_true")
    args = parser.parse_args()
    if not args.skip_ours:
        common.build()
    for case in args.case or CASES:
        print(report(case, args.skip_slow, args.skip_ours, args.reuse), flush=True)


if __name__ == "__main__":
    main()
