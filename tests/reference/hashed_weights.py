"""Weights that need no file: every number follows from the tensor's name by a hash.

    h       = FNV-1a (64 bits) of the name's UTF-8 bytes
    k(i)    = finaliser of splitmix64 at h + (i + 1) * 0x9E3779B97F4A7C15, its upper 24 bits
    u(i)    = (k(i) - 2^23) / 2^23, in [-1, 1), exact in f32
    w(i)    = f32(offset) + f32(scale) * u(i), the product rounded to f32, then the sum

i counts the elements of the row-major tensor. tests/support/golden_model.h computes the same bits.

Sources: Fowler, Noll, Vo, "FNV hash"; Steele, Lea, Flood, "Fast splittable pseudorandom number
generators", OOPSLA 2014.
"""

import numpy

FNV_OFFSET = 0xCBF29CE484222325
FNV_PRIME = 0x100000001B3
GOLDEN_GAMMA = 0x9E3779B97F4A7C15
MASK = (1 << 64) - 1


def name_hash(name: str) -> int:
    value = FNV_OFFSET
    for byte in name.encode():
        value = ((value ^ byte) * FNV_PRIME) & MASK
    return value


def finalise(state: numpy.ndarray) -> numpy.ndarray:
    """The output function of splitmix64, on uint64 with wrap-around."""
    state = (state ^ (state >> numpy.uint64(30))) * numpy.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> numpy.uint64(27))) * numpy.uint64(0x94D049BB133111EB)
    return state ^ (state >> numpy.uint64(31))


def hashed_weight(name: str, shape: list[int], offset: float, scale: float) -> numpy.ndarray:
    count = int(numpy.prod(shape))
    with numpy.errstate(over="ignore"):
        state = numpy.uint64(name_hash(name)) + numpy.arange(
            1, count + 1, dtype=numpy.uint64
        ) * numpy.uint64(GOLDEN_GAMMA)
        drawn = (finalise(state) >> numpy.uint64(40)).astype(numpy.int64)
    uniform = ((drawn - (1 << 23)) / float(1 << 23)).astype(numpy.float32)
    product = (numpy.float32(scale) * uniform).astype(numpy.float32)
    return (numpy.float32(offset) + product).astype(numpy.float32).reshape(shape)


def golden_weights(golden: dict) -> dict[str, numpy.ndarray]:
    """All tensors of a golden.json, f32, by name."""
    return {
        tensor["name"]: hashed_weight(
            tensor["name"], tensor["shape"], tensor["offset"], tensor["scale"]
        )
        for tensor in golden["tensors"]
    }


def checksum(weights: dict[str, numpy.ndarray]) -> int:
    """Over all tensors in order of name, the sum modulo 2^64 of (i + 1) * bits of element i."""
    total = 0
    for name in sorted(weights):
        bits = weights[name].astype("<f4").view("<u4").reshape(-1).astype(numpy.uint64)
        places = numpy.arange(1, bits.size + 1, dtype=numpy.uint64)
        total += int((bits * places).sum(dtype=numpy.uint64))
    return total & MASK
