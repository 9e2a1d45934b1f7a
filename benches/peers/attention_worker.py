#!/usr/bin/env python3
"""One peer's multi-head attention in one process. Prints one JSON line.

    python attention_worker.py onnxruntime --query Q.npy --key K.npy --value V.npy --num-heads 12 --output Y.npy [--causal]
    python attention_worker.py torch …

Only the attention is timed, after one run to warm up; the fastest run counts.
"""

import argparse
import json
import os
import time

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("peer", choices=["onnxruntime", "torch"])
for name in ("query", "key", "value", "output"):
    parser.add_argument(f"--{name}", required=True)
parser.add_argument("--num-heads", type=int, default=12)
parser.add_argument("--causal", action="store_true")
parser.add_argument("--repeat", type=int, default=5)
parser.add_argument("--threads", type=int, default=2)
args = parser.parse_args()

# Before any import that starts a thread pool.
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = str(args.threads)

import numpy as np  # noqa: E402

Q, K, V = (np.load(path)[None] for path in (args.query, args.key, args.value))


def onnxruntime():
    import onnx
    import onnxruntime as ort
    from onnx import TensorProto, helper

    names = ["query", "key", "value"]
    tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, list(X.shape)) for name, X in zip(names, (Q, K, V))]
    result = helper.make_tensor_value_info("result", TensorProto.FLOAT, list(Q.shape))
    node = helper.make_node(
        "MultiHeadAttention", names, ["result"], domain="com.microsoft", num_heads=args.num_heads, unidirectional=int(args.causal)
    )
    graph = helper.make_graph([node], "attention", tensors, [result])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    onnx.checker.check_model(model)
    options = ort.SessionOptions()
    options.intra_op_num_threads = args.threads
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    inputs = dict(zip(names, (Q, K, V)))
    return ort.__version__, lambda: session.run(None, inputs)[0][0]


def pytorch():
    import torch

    torch.set_num_threads(args.threads)
    split = lambda X: torch.from_numpy(X).unflatten(-1, (args.num_heads, -1)).transpose(1, 2)  # noqa: E731
    q, k, v = split(Q), split(K), split(V)

    def attend():
        with torch.inference_mode():
            return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=args.causal)

    return torch.__version__, lambda: attend()[0].transpose(0, 1).reshape(Q.shape[1], -1).numpy()


version, attend = onnxruntime() if args.peer == "onnxruntime" else pytorch()
Y, seconds = attend(), float("inf")
for _ in range(args.repeat):
    started = time.perf_counter()
    attend()
    seconds = min(seconds, time.perf_counter() - started)
np.save(args.output, Y)
print(json.dumps({"seconds": seconds, "version": version}))
