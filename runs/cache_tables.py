#!/usr/bin/env python3
"""The tables of the cache methods' READMEs: perplexity, agreement and needles of SmolLM2-135M on WikiText-2.

  runs/cache_tables.py [--tables stores policies combined] [--context 2048] [--chunks 8] [--threads N]

Finished rows are kept in runs/records/cache_tables.json, and a row that is there for this context, number of
windows and text is not measured again. Bytes are shares of the full cache in f16.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
ADZE = os.environ.get("ADZE", ROOT / "build/adze")
TEXT = pathlib.Path(os.environ.get("ADZE_SHARED", ROOT.parent / "shared")) / "data/text/wikitext2-test.txt"
RECORD = ROOT / "runs/records/cache_tables.json"
PIECE = 4  # cells that are lost when a run is stopped
FULL = ("full", "f16", 1)
WINDOW = "window:window=2044"
SHARE = 0.46  # of the tokens: the ratio that PyramidInfer's paper reports
TABLES = {
    "stores": [("full", store, 1) for store in (
        "f16", "int8", "int4", "kivi:bits=4", "kivi:bits=2", "deco:bits=8", "deco:bits=4", "deco:bits=3", "deco:bits=2",
        "deco:bits=4,form=a", "deco:bits=4,form=b")],
    "policies": [FULL, *((policy, "f16", SHARE) for policy in (
        "pyramid:recent-ratio=0.1", "window", "h2o", "snapkv", "pyramidkv", "tova", "knorm", "keydiff"))],
    # About an eighth of the bytes (10 to 15 % were measured): as many tokens as each width has room for.
    # A window of the whole context, so that the share alone is its limit.
    "combined": [FULL, *((policy, store, share) for store, share, policies in (
        ("deco:bits=4", 0.42, ("snapkv", "window")), ("deco:bits=3", 0.53, ("snapkv", WINDOW, "h2o", "keydiff")),
        ("deco:bits=2", 0.66, ("snapkv", WINDOW))) for policy in policies)],
}


def measure(cells, options, measures):
    """Rows of cells that differ in their policy or in their store: the full cache is computed once for all."""
    policies, stores, budgets = (list(dict.fromkeys(values)) for values in zip(*cells))
    command = [ADZE, "cache-lab", "--file", TEXT, "--policies", *policies, "--stores", *stores, "--budgets", *budgets,
               "--context", options.context, "--chunks", options.chunks, "--measures", *measures,
               "--threads", options.threads, "--json"]
    done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    if done.returncode != 0:
        sys.exit(f"cache_tables: failed: {' '.join(map(str, command))}")
    rows = json.loads(done.stdout.splitlines()[-1])["rows"]
    return [next(row for row in rows if (row["policy"], row["store"], row["budget"]) == cell) for cell in cells]


def batches(cells):
    """Runs of up to PIECE cells that one cache-lab measures without measuring any other."""
    batch = []
    for cell in cells:
        differ = [len({*values}) > 1 for values in zip(*batch, cell)]
        if len(batch) == PIECE or sum(differ) > 1:
            yield batch
            batch = []
        batch.append(cell)
    if batch:
        yield batch


def key(cell, options):
    return f"{' '.join(map(str, cell))} | {options.context} x {options.chunks}"


def shown(rows, full):
    lines = ["| policy | store | budget | perplexity | worse by | top-1 | KL | needles | bytes a token | of f16 |",
             "|---|---|---|---|---|---|---|---|---|---|"]
    for (policy, store, budget), row in rows:
        if row.get("skipped"):
            lines.append(f"| {policy} | {store} | {budget} | {row['skipped']} |")
            continue
        lines.append(
            f"| {policy} | {store} | {budget} | {row['perplexity']:.3f} | "
            f"{100 * (row['perplexity'] / full['perplexity'] - 1):+.2f} % | {100 * row['top1_agreement']:.1f} % | "
            f"{row['kl']:.4f} | {100 * row['needle_recall']:.0f} % | {row['cache_bytes_per_token']:,.0f} | "
            f"{100 * row['cache_bytes_per_token'] / full['cache_bytes_per_token']:.1f} % |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", nargs="+", default=list(TABLES), choices=TABLES)
    parser.add_argument("--context", type=int, default=2048)
    parser.add_argument("--chunks", type=int, default=8)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--seconds", type=float, help="begin no row after that time")
    options = parser.parse_args()
    if not TEXT.exists():
        sys.exit(f"cache_tables: {TEXT} is not here")
    known = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    start = time.monotonic()
    for name in options.tables:
        for cells in batches([cell for cell in TABLES[name] if key(cell, options) not in known]):
            if options.seconds and time.monotonic() - start > options.seconds:
                sys.exit(f"cache_tables: stopped before {key(cells[0], options)}; call again to go on")
            for cell, row in zip(cells, measure(cells, options, ["perplexity", "agreement", "needle"])):
                known[key(cell, options)] = row
                print(f"{name}, {time.monotonic() - start:.0f} s: {key(cell, options)}: "
                      f"perplexity {row['perplexity']}", file=sys.stderr, flush=True)
            RECORD.parent.mkdir(exist_ok=True)
            RECORD.write_text(json.dumps(known, indent=1) + "\n")
        full = known[key(FULL, options)]
        print(f"\n{name}, {options.chunks} windows of {options.context} tokens\n")
        print(shown([(cell, known[key(cell, options)]) for cell in TABLES[name]], full))


if __name__ == "__main__":
    main()
