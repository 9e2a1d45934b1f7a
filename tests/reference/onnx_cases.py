#!/usr/bin/env python3
"""Writes onnx_attention_cases.parquet: the inputs and expected outputs of every case that ONNX's own backend test has for
its operator Attention. For maintainers: python tests/reference/onnx_cases.py. README.md tells the format.

The numbers are those of the pinned release of onnx (benches/peers/requirements.txt), Apache-2.0: see NOTICE.
"""

import json
import warnings
from pathlib import Path

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
from onnx.backend.test.case.node import collect_testcases

HERE = Path(__file__).resolve().parent
CASES = 93
PREFIX = "test_attention_"
SCHEMA = pa.schema(
    [
        ("case", pa.string()),
        ("attributes", pa.string()),
        ("tensor", pa.string()),
        ("dtype", pa.string()),
        ("shape", pa.list_(pa.field("element", pa.int64()))),
        ("data", pa.list_(pa.field("element", pa.float64()))),
    ]
)
# By position: tests name a node's inputs and outputs as they like, and leave out what comes after the last they use.
INPUTS = ("Q", "K", "V", "attn_mask", "past_key", "past_value", "nonpad_kv_seqlen")
OUTPUTS = ("Y", "present_key", "present_value", "qk_matmul_output")


def tensors(names, given, arrays):
    """The arrays by their names: an empty name in `given` is an argument left out, which has no array."""
    places = [name for name, own in zip(names, given) if own]
    assert len(places) == len(arrays) and len(given) <= len(names), given
    return zip(places, arrays)


def rows(case):
    (node,), (data,) = case.model.graph.node, case.data_sets
    assert node.op_type == "Attention", case.name
    attributes = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
    inputs, outputs = data
    for tensor, array in [*tensors(INPUTS, node.input, inputs), *tensors(OUTPUTS, node.output, outputs)]:
        array = np.asarray(array)
        yield {
            "case": case.name.removeprefix(PREFIX),
            "attributes": json.dumps(attributes, sort_keys=True),
            "tensor": tensor,
            "dtype": array.dtype.name,
            "shape": list(array.shape),
            "data": array.astype(np.float64).ravel().tolist(),
        }


def main():
    # Masks of infinities make NumPy warn where the operator's reference means them to.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        # A second model of each case, `_expanded`, spells the operator out in others: the same inputs and outputs.
        cases = [case for case in collect_testcases("Attention") if not case.name.endswith("_expanded")]
    assert len(cases) == CASES, f"onnx {onnx.__version__} has {len(cases)} cases"
    cases.sort(key=lambda case: case.name)
    assert all(case.name.startswith(PREFIX) for case in cases)
    table = pa.Table.from_pylist([row for case in cases for row in rows(case)], SCHEMA)
    table = table.replace_schema_metadata({"source": f"onnx {onnx.__version__}, https://github.com/onnx/onnx, Apache-2.0"})
    path = HERE / "onnx_attention_cases.parquet"
    strings = ["case", "attributes", "tensor", "dtype"]
    pq.write_table(table, path, compression="zstd", compression_level=19, use_dictionary=[*strings, "data.list.element"])
    written = pq.read_table(path)
    assert written.schema.equals(table.schema) and written.num_rows == table.num_rows
    print(f"{path.name}: {len(cases)} cases, {table.num_rows} tensors, {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
