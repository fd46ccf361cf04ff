"""TensorBoard itself reads a run's events. Skipped where its package cannot be had."""

import json
import pathlib
import sys
import tempfile

from test_python import need

need("tensorboard", "tensorboard")

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # noqa: E402

from adze_program import run  # noqa: E402
from train_data import TINY, make_data  # noqa: E402

with tempfile.TemporaryDirectory(prefix="adze-tensorboard-") as name:
    root = pathlib.Path(name)
    make_data(root)
    config = json.loads(TINY.read_text().replace("@DATA@", str(root / "data"))) | {"steps": 10}
    (root / "config.json").write_text(json.dumps(config))
    result = run("train", "--config", root / "config.json", "--out", root / "run")
    assert result.returncode == 0, result.stderr.decode()
    rows = [json.loads(line) for line in (root / "run/metrics.jsonl").read_text().splitlines()]
    events = EventAccumulator(str(root / "run"))
    events.Reload()
    for tag in ("loss", "validation_loss", "learning_rate"):
        expected = [(row["step"], row[tag]) for row in rows if tag in row]
        found = [(event.step, event.value) for event in events.Scalars(tag)]
        assert [step for step, _ in found] == [step for step, _ in expected], tag
        for (_, value), (_, wanted) in zip(found, expected):
            assert abs(value - wanted) <= 1e-6 * abs(wanted), (tag, value, wanted)
print(f"TensorBoard read {len(rows)} rows")
sys.exit(0)
