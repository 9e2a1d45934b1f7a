#!/usr/bin/env python3
"""Runs every peer comparison in one go, on the same cores, and writes RESULTS.md beside this file.

    make bench-peers          (or: python benches/peers/run_all.py [--skip-slow] [--skip-ours] [--output FILE])
"""

import argparse
import datetime
import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import attention
import common
import fit
import neighbors
import objective
import quality
import transform

PACKAGES = ["scikit-learn", "faiss-cpu", "onnxruntime", "numpy", "scipy"]


def first(command):
    return subprocess.run(command, cwd=common.REPO, capture_output=True, text=True).stdout.strip()


def machine():
    with open("/proc/cpuinfo") as info:
        model = next((line.split(":", 1)[1].strip() for line in info if line.startswith("model name")), platform.machine())
    with open("/proc/meminfo") as info:
        memory = int(next(info).split()[1]) / 2**20
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return [
        f"- Machine: {model}, {os.cpu_count()} cores, {memory:.0f} GiB; {common.THREADS} threads on either side",
        f"- Load average before the run: {os.getloadavg()[0]:.2f}",
        f"- Versions: Lakefold {first(['git', 'describe', '--always', '--dirty'])}, {first(['rustc', '--version'])}, "
        f"Python {platform.python_version()}, {versions}",
        f"- Date: {datetime.date.today().isoformat()}",
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--skip-slow", action="store_true", help="leave out the scikit-learn solver that has always been slower")
    parser.add_argument("--skip-ours", action="store_true")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("RESULTS.md"))
    args = parser.parse_args()
    if not args.skip_ours:
        common.build()
    parts = ["# Lakefold and its peers\n\nWritten by `make bench-peers`. Each side runs in a process of its own; peak memory is "
             "that process's, with the input and the libraries in it. Only the fit or the search is timed.\n\n" + "\n".join(machine()) + "\n"]
    parts.append(neighbors.report(skip_ours=args.skip_ours))
    parts.append(transform.report(skip_ours=args.skip_ours))
    parts += [fit.report(case, args.skip_slow, args.skip_ours) for case in fit.CASES]
    parts.append(objective.report(skip_ours=args.skip_ours))
    parts.append(attention.report(skip_ours=args.skip_ours))
    if not args.skip_ours:
        parts += [quality.report(case) for case in quality.CASES if case not in quality.ALONE]
    args.output.write_text("\n".join(parts))
    print(args.output.read_text())


if __name__ == "__main__":
    main()
