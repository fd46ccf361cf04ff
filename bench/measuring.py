"""What the measuring scripts share. Standard library only."""

import datetime
import json
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
ADZE = ROOT / "build" / "adze"


def say(text):
    print(text, file=sys.stderr, flush=True)


def run(command):
    """Standard output of a command; ends this program with its error where it fails."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"bench: {command[0]} failed ({done.returncode}):\n{done.stderr[-2000:]}")
    return done.stdout


def processor():
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")


def default_model():
    data = pathlib.Path(os.environ.get("XDG_DATA_HOME") or pathlib.Path.home() / ".local/share")
    folder = data / "adze/models/smollm2-135m"
    return folder / json.loads((folder / "model.json").read_text())["file"]


def circumstances(model, threads):
    """What a record says beside its figures."""
    return {"model": model.name, "processor": processor(), "threads": threads,
            "date": datetime.date.today().isoformat(),
            "commit": run(["git", "-C", ROOT, "describe", "--always", "--dirty"]).strip(),
            "peaks": json.loads(run([ADZE, "bench", "--peaks", "--threads", threads, "--json"]))}


def keep_record(kind, record):
    path = ROOT / "bench/records" / (f"{kind}-{record['date']}-{pathlib.Path(record['model']).stem}"
                                     f"-{record['threads']}.json")
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n")
    say(f"recorded in {path.relative_to(ROOT)}")
