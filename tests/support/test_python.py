"""Third-party packages for a test: runs it again under the Python of tools/test-python."""

import importlib.util
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]


def need(module, requirements):
    """Returns where `module` can be imported; skips the test (77) where its packages cannot be had."""
    if importlib.util.find_spec(module):
        return
    made = subprocess.run([ROOT / "tools/test-python", requirements], stdout=subprocess.PIPE, text=True, check=False)
    if made.returncode != 0:
        print(f"skipped: the packages of tools/requirements/{requirements}-test.txt cannot be had")
        sys.exit(77)
    python = made.stdout.splitlines()[-1]
    assert os.path.realpath(sys.prefix) != os.path.realpath(pathlib.Path(python).parents[1]), f"{python} lacks {module}"
    os.execv(python, [python, *sys.argv])
