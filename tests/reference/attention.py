#!/usr/bin/env python3
"""Writes attention.json: what NumPy says about attention with its projections, with grouped heads and all options, and about
attention weights. For maintainers: python tests/reference/attention.py. README.md tells the format.

Everything is computed in float64 from numbers of three decimals, by the formulas themselves: no blocks, no online softmax.
"""

import json
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
RANDOM = np.random.default_rng(4)


def numbers(*shape):
    return RANDOM.normal(size=shape).round(3)


def softmax(scores):
    """Over the last axis; a row that is masked out as a whole gets zeros."""
    largest = scores.max(axis=-1, keepdims=True)
    weights = np.exp(scores - np.where(np.isfinite(largest), largest, 0.0))
    total = weights.sum(axis=-1, keepdims=True)
    return np.divide(weights, total, out=np.zeros_like(weights), where=total > 0)


def heads(x, count):
    """(length, count · d) as (count, length, d)."""
    return x.reshape(len(x), count, -1).transpose(1, 0, 2)


def attention(query, key, value, num_heads, kv_num_heads, is_causal=False, scale=None, softcap=0.0, mask=None, query_offset=0):
    """The operator Attention of ONNX, opset 24: scale, softcap, mask, softmax."""
    q, k, v = heads(query, num_heads), heads(key, kv_num_heads), heads(value, kv_num_heads)
    k, v = (np.repeat(x, num_heads // kv_num_heads, axis=0) for x in (k, v))
    scores = q @ k.transpose(0, 2, 1) * (1 / np.sqrt(q.shape[-1]) if scale is None else scale)
    if softcap:
        scores = softcap * np.tanh(scores / softcap)
    if mask is not None:
        scores = np.where(mask, scores, -np.inf) if mask.dtype == bool else scores + mask
    if is_causal:
        positions = np.arange(len(query))[:, None] + query_offset
        scores = np.where(np.arange(len(key)) <= positions, scores, -np.inf)
    return (softmax(scores) @ v).transpose(1, 0, 2).reshape(len(query), -1)


def whole_class():
    """Multi-head attention with its four linear layers, as in Vaswani et al. 2017 (section 3.2.2), causal."""
    size, num_heads, length = 8, 2, 5
    layers = {name: {"weight": numbers(size, size), "bias": numbers(size)} for name in ("q_proj", "k_proj", "v_proj")}
    layers["out_proj"] = {"weight": numbers(6, size), "bias": None}
    x = numbers(length, size)

    def linear(x, name):
        layer = layers[name]
        return x @ layer["weight"].T + (0 if layer["bias"] is None else layer["bias"])

    q, k, v = (linear(x, name) for name in ("q_proj", "k_proj", "v_proj"))
    output = linear(attention(q, k, v, num_heads, num_heads, is_causal=True), "out_proj")
    return {"num_heads": num_heads, "layers": layers, "x": x, "output": output}


def calls():
    """Heads in groups, with every option on in some call."""
    query, key, value = numbers(4, 12), numbers(6, 6), numbers(6, 10)
    shared = {"query": query, "key": key, "value": value, "num_heads": 4, "kv_num_heads": 2}
    # Not where causality leaves only masked keys: that is what the last call is for.
    additive = numbers(4, 6)
    per_head = RANDOM.random((4, 4, 6)) < 0.7
    nothing = np.ones((4, 6), dtype=bool)
    nothing[2] = False
    options = [
        {},
        {"is_causal": True, "query_offset": 2},
        {"scale": 0.25, "softcap": 1.5, "mask": additive},
        {"mask": per_head},
        {"is_causal": True, "mask": additive, "softcap": 2.0},
        {"mask": nothing},
    ]
    return [shared | chosen | {"output": attention(**shared, **chosen)} for chosen in options]


def weights():
    query, keys = numbers(5), numbers(7, 5)
    dot = keys @ query
    scores = {
        "dot": dot / np.sqrt(5),
        "cosine": dot / (np.linalg.norm(keys, axis=1) * np.linalg.norm(query)),
        "l2": -((keys - query) ** 2).sum(axis=1) / (2 * np.sqrt(5)),
    }
    return {"query": query, "keys": keys, "weights": {name: softmax(score) for name, score in scores.items()}}


def plain(value):
    if isinstance(value, dict):
        return {name: plain(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    return value.tolist() if isinstance(value, np.ndarray) else value


def main():
    record = {"numpy": np.__version__, "class": whole_class(), "calls": calls(), "weights": weights()}
    text = json.dumps(plain(record), separators=(",", ":")).replace("],[", "],\n[").replace(',"', ',\n"')
    (HERE / "attention.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
