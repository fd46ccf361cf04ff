"""A trained model in transformers: loads the folder that adze train saved and scores the held-out documents
of the run; the mean must be the validation loss that training reported.

    check_trained_model.py RUN_FOLDER     (in an environment with torch and transformers)
"""

import json
import pathlib
import struct
import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def main():
    run = pathlib.Path(sys.argv[1])
    options = json.loads((run / "config.json").read_text())
    summary = json.loads((run / "summary.json").read_text())
    data = pathlib.Path(options["data"])
    manifest = json.loads((data / "manifest.json").read_text())
    assert len(manifest["shards"]) == 1 and manifest["token_bytes"] == 2
    name = manifest["shards"][0]["name"]
    raw, lengths = ((data / f"{name}.{kind}").read_bytes() for kind in ("tokens", "lengths"))
    lengths = struct.unpack(f"<{len(lengths) // 4}I", lengths)
    tokens = struct.unpack(f"<{len(raw) // 2}H", raw)
    model = AutoModelForCausalLM.from_pretrained(run / "model", dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(run / "model")
    assert tokenizer.decode(tokenizer("the river")["input_ids"]) == "the river"
    left, total, count = options["validation-tokens"], 0.0, 0
    longest = options["context-length"]
    place = sum(lengths[:-options["validation-documents"]])
    for length in lengths[-options["validation-documents"]:]:
        document = tokens[place:place + length]
        place += length
        for first in range(0, length - 1, longest):
            rows = min(longest, length - 1 - first, left)
            if rows <= 0:
                continue
            ids = torch.tensor([document[first:first + rows + 1]])
            with torch.no_grad():
                logits = model(ids[:, :-1]).logits[0].double()
            total += torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum").item()
            count += rows
            left -= rows
    difference = abs(total / count - summary["validation_loss"])
    print(f"transformers {total / count:.6f}, adze {summary['validation_loss']:.6f} over {count} tokens")
    if difference > 1e-5:
        sys.exit(f"expected the same loss within 1e-5, got a difference of {difference:.2e}")


if __name__ == "__main__":
    main()
