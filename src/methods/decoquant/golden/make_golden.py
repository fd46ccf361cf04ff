#!/usr/bin/env python3
"""Writes golden.json and expected.bin: what DecoQuant makes of keys and values, by its steps in float64.
Independent of adze: singular values come from LAPACK, the Hadamard matrix is built by Kronecker
products, codes are never packed. Numbers follow from names by a hash (tests/reference/hashed_weights.py);
every fifth rebuilt number is kept.

    python3 make_golden.py      needs: numpy
"""

import json
import math
import pathlib
import sys

import numpy

FOLDER = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parents[3] / "tests" / "reference"))

from hashed_weights import hashed_weight  # noqa: E402

HEADS, DIM, PAGE, FIRST, SINKS, CHUNK = 2, 32, 32, 256, 4, 16
EVERY = 5


def numbers(name):
    """[HEADS, FIRST, DIM], f32: channels of unequal width, some of them far from zero."""
    drawn = hashed_weight(name, [HEADS, FIRST, DIM], 0.0, 1.0)
    channel = numpy.arange(DIM)
    width = numpy.where(channel % 8 == 3, 6, numpy.float32(0.5) + channel / numpy.float32(64)).astype(numpy.float32)
    mean = numpy.where(channel % 5 == 1, 2, 0).astype(numpy.float32)
    return (drawn * width).astype(numpy.float32) + mean


def half(values):
    return numpy.asarray(values, dtype=numpy.float32).astype(numpy.float16).astype(numpy.float64)


# ---- the paper's forms (2.1 to 2.3) -----------------------------------------------------------------


def quantised(large, bits, axis_groups):
    """2.1: one step for each group of rows; `axis_groups` rows a group."""
    most = 2 ** (bits - 1) - 1
    groups = large.reshape(len(large) // axis_groups, -1)
    steps = half(numpy.maximum(abs(groups).max(1), 1e-5) / most)[:, None]
    return (numpy.clip(numpy.rint(groups / steps), -most, most) * steps).reshape(large.shape)


def paper_form(page, bits, form):
    """page [HEADS, PAGE, DIM] -> what is rebuilt of it."""
    tokens = page.transpose(1, 0, 2).reshape(PAGE, HEADS * DIM).astype(numpy.float64)
    # 2.3: chunks of a token's channels are rows, or channels are.
    matrix = tokens.reshape(-1, CHUNK) if form == "a" else tokens.T
    left, singular, right = numpy.linalg.svd(matrix, full_matrices=False)  # 2.2 step 2
    large = left * numpy.sqrt(singular)  # 2.2 step 3 for two factors
    small = numpy.sqrt(singular)[:, None] * right
    assert abs(large @ small - matrix).max() < 1e-12 * singular[0]  # 2.2 step 4 cuts nothing
    rebuilt = quantised(large, bits, HEADS * DIM // CHUNK if form == "a" else 1) @ half(small)
    tokens = rebuilt.reshape(PAGE, HEADS * DIM) if form == "a" else rebuilt.T
    return tokens.reshape(PAGE, HEADS, DIM).transpose(1, 0, 2)


# ---- the buildable form (2.8), as README.md has it --------------------------------------------------


def hadamard():
    matrix = numpy.ones((1, 1))
    while len(matrix) < DIM:
        matrix = numpy.kron(matrix, [[1, 1], [1, -1]])
    return matrix / math.sqrt(DIM)


def spreads(head):
    """Of [FIRST, DIM]: root of the mean variance within pages, the first one aside."""
    pages = head[PAGE:].reshape(-1, PAGE, DIM)
    return numpy.maximum(numpy.sqrt(pages.var(1).mean(0)), 2.0**-14)


def widths(importance, bits):
    """2.8 step 5."""
    if bits == 8:
        return numpy.full(DIM, 8)
    error = [1, .40, .13, .038, .0115, .0032, .0009]
    given = numpy.full(DIM, max(bits - 1, 2))
    for _ in range((DIM * 5 // 2 if bits == 2 else DIM * bits) - given.sum()):
        gains = [w * (error[b] - error[b + 1]) if b < 6 else -1 for w, b in zip(importance, given)]
        given[int(numpy.argmax(gains))] += 1
    return given


def coded(group, bits, spread, unit, searches):
    """2.8 step 4: 32 numbers, a scale of 16 even steps an octave and a zero in units."""
    contains = bits == 8
    levels = 2**bits - 1

    def between(low, high):
        zero = numpy.clip((math.floor if contains else numpy.rint)(low / unit), -128, 127)
        fraction, exponent = math.frexp(max((high - zero * unit) / levels, 1e-8) / spread)  # 0.5 to 1
        sixteenths = (math.ceil if contains else numpy.rint)(16 * (2 * fraction - 1))
        octave, sixteenth = divmod(numpy.clip(16 * (exponent + 7) + sixteenths, 0, 255), 16)
        step = spread * 2.0 ** (octave - 8) * (1 + sixteenth / 16)
        return zero * unit + step * numpy.clip(numpy.rint((group - zero * unit) / step), 0, levels)

    low, high = group.min(), group.max()
    insets = [0.05 * tenth * (high - low) for tenth in range(6 if searches else 1)]
    return min((between(low + inset, high - inset) for inset in insets), key=lambda x: ((x - group) ** 2).sum())


def plus_form(all_keys, all_values, number, bits):
    """Page `number` rebuilt: (keys, values) [HEADS, PAGE, DIM]."""
    turn = hadamard()
    keys, values = [], []
    for head in range(HEADS):
        first = all_keys[head].astype(numpy.float64)
        turned = all_values[head].astype(numpy.float64) @ turn
        # What pages share (step 3): nothing of it is an eigenvector.
        spread = spreads(first)
        energy = (first[SINKS:] ** 2).mean(0)
        pair = energy + numpy.roll(energy, DIM // 2)
        unit = numpy.maximum(numpy.sqrt(pair) / 40, 2.0**-18)
        bits_of = widths(spread**2 * pair, bits)
        value_spread, value_mean = spreads(turned), turned[SINKS:].mean(0)  # step 2, of values
        rows = slice(number * PAGE, (number + 1) * PAGE)
        page_keys, page_values = first[rows].copy(), turned[rows].copy()
        if number == 0:  # step 1: sinks widen no range
            sinks = half(page_keys[:SINKS]), half(page_values[:SINKS])
            page_keys[:SINKS], page_values[:SINKS] = page_keys[SINKS], page_values[SINKS]
        for c in range(DIM):
            page_keys[:, c] = coded(page_keys[:, c], int(bits_of[c]), spread[c], unit[c], False)
            group = page_values[:, c] - value_mean[c]
            page_values[:, c] = value_mean[c] + coded(group, bits, value_spread[c], value_spread[c] / 16, bits < 4)
        if number == 0:
            page_keys[:SINKS], page_values[:SINKS] = sinks
        keys.append(page_keys)
        values.append(page_values @ turn.T)
    return numpy.array(keys), numpy.array(values)


def main():
    keys, values = numbers("deco key"), numbers("deco value")
    cases, expected = [], []
    for form, number, bits in [(f, 3, b) for f in "ab" for b in (2, 4)] + \
                              [("plus", n, b) for n in (0, 3) for b in (2, 3, 4, 8)]:
        rows = slice(number * PAGE, (number + 1) * PAGE)
        if form == "plus":
            rebuilt = plus_form(keys, values, number, bits)
        else:
            rebuilt = [paper_form(part[:, rows], bits, form) for part in (keys, values)]
        whole = numpy.concatenate([part.ravel() for part in rebuilt])
        exact = numpy.concatenate([part[:, rows].ravel() for part in (keys, values)])
        error = math.sqrt(((whole - exact) ** 2).sum() / (exact.astype(float) ** 2).sum())
        print(f"{form}, page {number}, {bits} bits: relative error {error:.4f}")
        cases.append({"form": form, "page": number, "bits": bits, "error": round(error, 6)})
        expected.append(whole[::EVERY])
    golden = {"kv_heads": HEADS, "head_dim": DIM, "chunk": CHUNK, "every": EVERY, "cases": cases}
    (FOLDER / "golden.json").write_text(json.dumps(golden, separators=(",", ":")).replace('{"form"', '\n{"form"') + "\n")
    (FOLDER / "expected.bin").write_bytes(numpy.concatenate(expected).astype("<f4").tobytes())


if __name__ == "__main__":
    main()
