#!/usr/bin/env python3
"""Writes reference.safetensors and written.safetensors, the reference for safetensors_test.cpp.

Both come from the `safetensors` package (0.8), whose reader and writer are not ours.
reference.safetensors: every dtype that is loaded, integers that are skipped, a scalar, an empty
tensor, a name and metadata beyond ASCII. The k-th value of a float tensor is k / 8 - 1, of an
integer tensor k.
written.safetensors: what our writer must give byte for byte for the same tensors.

Run in this folder: python3 make_safetensors.py
"""

import pathlib

import torch
from safetensors.torch import save_file


def values(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    count = torch.Size(shape).numel()
    numbers = torch.arange(count, dtype=torch.float64)
    if dtype.is_floating_point:
        numbers = numbers / 8 - 1
    return numbers.to(dtype).reshape(shape)


def main() -> None:
    folder = pathlib.Path(__file__).parent
    floats = {
        "b.weight": values((2, 3), torch.float32),
        "a.weight": values((3, 5), torch.float16),
        "c.weight": values((7,), torch.bfloat16),
        'quo"te\\é': values((), torch.float32),
        "empty": values((0, 4), torch.float16),
    }
    save_file(floats, folder / "written.safetensors", metadata={"format": "pt"})
    integers = {
        "position_ids": values((1, 5), torch.int64),
        "mask": values((3,), torch.bool),
        "bytes": values((2, 2), torch.uint8),
    }
    save_file({**floats, **integers}, folder / "reference.safetensors", metadata={"ké": "vä\nlue"})


if __name__ == "__main__":
    main()
