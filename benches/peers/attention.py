#!/usr/bin/env python3
"""Multi-head attention, 12 heads of 64: ONNX Runtime's MultiHeadAttention and PyTorch's scaled_dot_product_attention on the
CPU against ours, and the bare float32 product of two matrices in the same run.

    python benches/peers/attention.py [--lengths 512 4096] [--repeat 5] [--skip-ours]

Every side reads the same float32 files. Attention of L queries and keys counts as 4·L²·768 operations, causal attention as
half of that. Sliding frames follow, ours alone: their time must grow with the frame, not with the sequence.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

import common

HEADS, SIZE = 12, 64
FRAMES = [16, 64, 256, 1024]


def inputs(length):
    random = np.random.default_rng(length)
    names = ("query", "key", "value")
    return {name: common.saved(f"attention-{name}-{length}", random.standard_normal((length, HEADS * SIZE), np.float32)) for name in names}


def attend(command, length, output, *flags, repeat):
    command = list(command) + ["--num-heads", HEADS, "--threads", common.THREADS, "--repeat", repeat, "--output", output, *flags]
    for name, path in inputs(length).items():
        command += [f"--{name}", path]
    answer = common.run(command)
    return answer, None if "error" in answer else np.load(output)


def program():
    return [common.target_directory() / "release" / "bench_attention"]


def worker(peer):
    return [sys.executable, Path(__file__).with_name("attention_worker.py"), peer]


def compare(length, causal, repeat, skip_ours):
    flags = ["--causal"] if causal else []
    sides = {"ONNX Runtime": worker("onnxruntime"), "PyTorch": worker("torch")}
    if not skip_ours:
        sides["Lakefold"] = program()
    repeat = repeat if length > 2048 else 8 * repeat
    answers = {}
    for name, command in sides.items():
        output = common.work_directory() / f"attention-{name.replace(' ', '')}.out.npy"
        answers[name] = attend(command, length, output, *flags, repeat=repeat)
    reference, expected = answers["ONNX Runtime"]
    operations = 4 * length**2 * HEADS * SIZE / (2 if causal else 1)
    lines = []
    for name, (answer, result) in answers.items():
        if "error" in answer:
            lines.append([name, "failed: " + answer["error"], "–", "–", "–", "–"])
            continue
        rate = operations / answer["seconds"] / 1e9
        known = "error" not in reference
        ratio = f"{reference['seconds'] / answer['seconds']:.2f}" if known else "–"
        difference = f"{np.abs(result - expected).max():.1e}" if known else "–"
        share = f"{answer['share_of_product']:.2f}" if "share_of_product" in answer else "–"
        lines.append([name, f"{answer['seconds'] * 1e3:.1f}", f"{rate:.0f}", ratio, share, difference])
    kind = "causal" if causal else "whole"
    head = ["", "ms", "GFLOP/s", "speed / ONNX Runtime", "share of the product", "largest difference"]
    return f"### {length:,} rows, {kind}\n\n" + common.table(head, lines) + "\n"


def frames(lengths, repeat):
    lines = []
    for length in lengths:
        cells = [f"{length:,}"]
        for frame in FRAMES:
            output = common.work_directory() / "attention-frame.out.npy"
            answer, _ = attend(program(), length, output, "--frame", frame, repeat=repeat)
            cells.append("failed: " + answer["error"] if "error" in answer else f"{answer['seconds'] * 1e6 / length:.2f}")
        lines.append(cells)
    return "### Sliding frames: microseconds a row, all heads\n\n" + common.table(["rows"] + [f"frame {n}" for n in FRAMES], lines) + "\n"


def report(lengths=(512, 4096), repeat=5, skip_ours=False):
    parts = [f"## Attention\n\n{HEADS} heads × {SIZE}, float32, {common.THREADS} threads; fastest of {repeat} (short ones: {8 * repeat}).\n"]
    parts += [compare(length, causal, repeat, skip_ours) for length in lengths for causal in (False, True)]
    if not skip_ours:
        parts.append(frames([4096, 16384], max(repeat // 2, 1)))
    return "\n".join(parts)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", type=int, nargs="+", default=[512, 4096])
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--skip-ours", action="store_true")
    parser.add_argument("--skip-build", action="store_true")
    args = parser.parse_args()
    if not args.skip_ours and not args.skip_build:
        common.build()
    print(report(args.lengths, args.repeat, args.skip_ours))


if __name__ == "__main__":
    main()
