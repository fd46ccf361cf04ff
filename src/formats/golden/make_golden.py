#!/usr/bin/env python3
"""Writes quantization.gguf, the reference for dequantize_test.cpp, quantize_test.cpp and
gguf_test.cpp. Seed 20260917.

The file itself comes from the `gguf` package (0.19), so it also tests the reader against a writer
that is not ours. It holds, per type T:
  T.blocks   random bytes as blocks of T, every half-precision scale replaced by a finite one
  T.values   f32, gguf.quants.dequantize(T.blocks)
and, per type that the package can quantize:
  source     f32, the same for all: normal, tiny, huge, constant and zero blocks
  T.codes    gguf.quants.quantize(source)
and one metadata key of each scalar and array type.

Run in this folder: python3 make_golden.py
"""

import pathlib

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf import GGUFValueType

# Byte offsets of the half-precision fields in a block; None: the block is one number.
HALF_OFFSETS = {
    Type.F32: None,
    Type.F16: None,
    Type.BF16: None,
    Type.Q4_0: [0],
    Type.Q4_1: [0, 2],
    Type.Q5_0: [0],
    Type.Q5_1: [0, 2],
    Type.Q8_0: [0],
    Type.Q2_K: [80, 82],
    Type.Q3_K: [108],
    Type.Q4_K: [0, 2],
    Type.Q5_K: [0, 2],
    Type.Q6_K: [208],
    Type.IQ4_NL: [0],
    Type.IQ4_XS: [0],
}
QUANTIZABLE = [Type.F16, Type.BF16, Type.Q4_0, Type.Q4_1, Type.Q5_0, Type.Q5_1, Type.Q8_0]
VALUES = 1024


def random_halfs(rng: np.random.Generator, count: int) -> np.ndarray:
    """Finite halves of every magnitude: normal, subnormal and both zeros."""
    bits = rng.integers(0, 1 << 16, count).astype(np.uint16)
    bits = np.where((bits & 0x7C00) == 0x7C00, bits & 0x83FF, bits)
    bits[0], bits[-1] = 0x8000, 0x0000
    return bits.astype(np.uint16)


def random_blocks(rng: np.random.Generator, kind: Type) -> np.ndarray:
    elements, size = gguf.GGML_QUANT_SIZES[kind]
    count = VALUES // elements
    if kind == Type.F32:
        return rng.standard_normal(count).astype(np.float32).view(np.uint8)
    if kind == Type.F16:
        return random_halfs(rng, count).view(np.uint8)
    if kind == Type.BF16:
        bits = (rng.standard_normal(count).astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
        return bits.view(np.uint8)
    blocks = rng.integers(0, 256, (count, size), dtype=np.uint8)
    for offset in HALF_OFFSETS[kind]:
        blocks[:, offset : offset + 2] = random_halfs(rng, count).view(np.uint8).reshape(count, 2)
    return blocks.reshape(-1)


def source_values(rng: np.random.Generator) -> np.ndarray:
    source = rng.standard_normal((VALUES // 32, 32)).astype(np.float32)
    source[1] = 0
    source[2] = 0.75
    source[3] *= 1e-6
    source[4] *= 1e4
    source[5] = -0.0
    source[6] = np.abs(source[6])
    source[7] = -np.abs(source[7])
    source[8] = np.arange(32) - 16  # ties
    return source.reshape(1, -1)


def add_metadata(writer: gguf.GGUFWriter) -> None:
    scalars = {
        GGUFValueType.UINT8: 200,
        GGUFValueType.INT8: -100,
        GGUFValueType.UINT16: 60000,
        GGUFValueType.INT16: -30000,
        GGUFValueType.UINT32: 4000000000,
        GGUFValueType.INT32: -2000000000,
        GGUFValueType.FLOAT32: 0.15625,
        GGUFValueType.BOOL: True,
        GGUFValueType.STRING: "naïve",
        GGUFValueType.UINT64: 1 << 63,
        GGUFValueType.INT64: -(1 << 62),
        GGUFValueType.FLOAT64: 1e-300,
    }
    for kind, value in scalars.items():
        writer.add_key_value(f"scalar.{kind.name.lower()}", value, kind)
        other = {"bool": False, "str": "", "float": 2.5, "int": 7}[type(value).__name__]
        writer.add_key_value(f"array.{kind.name.lower()}", [value, other], GGUFValueType.ARRAY, kind)


def main() -> None:
    rng = np.random.default_rng(20260917)
    path = pathlib.Path(__file__).with_name("quantization.gguf")
    writer = gguf.GGUFWriter(path, "golden")
    add_metadata(writer)
    for kind in HALF_OFFSETS:
        name = kind.name.lower()
        blocks = random_blocks(rng, kind)
        values = gguf.quants.dequantize(blocks.reshape(1, -1), kind)
        writer.add_tensor(f"{name}.blocks", blocks.reshape(1, -1), raw_dtype=kind)
        writer.add_tensor(f"{name}.values", values.reshape(1, -1).astype(np.float32))
    source = source_values(rng)
    writer.add_tensor("source", source)
    for kind in QUANTIZABLE:
        codes = gguf.quants.quantize(source, kind).view(np.uint8)
        writer.add_tensor(f"{kind.name.lower()}.codes", codes, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main()
