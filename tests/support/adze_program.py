"""Runs the program that ADZE names, as a user would; for tests of whole commands."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

ADZE = os.environ.get("ADZE", "build/adze")
# Runs of tests are not for the user's catalogue.
os.environ.setdefault("ADZE_RUNS", os.path.join(tempfile.gettempdir(), f"adze-test-runs-{os.getuid()}.sqlite"))
MODEL = "smollm2-135m"
SKIPPED = 77  # ctest's SKIP_RETURN_CODE


def run(*arguments, text=None, timeout=300, **options):
    """Bytes in, bytes out."""
    stdin = subprocess.DEVNULL if text is None else None
    return subprocess.run([ADZE, *map(str, arguments)], input=text, stdin=stdin, timeout=timeout,
                          capture_output=True, check=False, **options)


def default_model():
    """Path of the default model; leaves the test as skipped where it is not on this machine."""
    for model in json.loads(run("list", "--json").stdout.splitlines()[-1])["models"]:
        if model["name"] == MODEL:
            return pathlib.Path(model["path"])
    print(f"skipped: {MODEL} is not here; adze pull {MODEL} fetches it")
    sys.exit(SKIPPED)


class Case(unittest.TestCase):
    def assert_succeeds(self, result):
        self.assertEqual(result.returncode, 0, result.stderr.decode(errors="replace"))

    def object(self, *arguments, **options):
        """The object on the last line of stdout under --json."""
        result = run(*arguments, "--json", **options)
        self.assert_succeeds(result)
        value = json.loads(result.stdout.decode().splitlines()[-1])
        self.assertIsInstance(value, dict)
        return value

    def assert_refused(self, code, parts, *arguments, **options):
        """One line on stderr with all of `parts`, and the exit code."""
        result = run(*arguments, **options)
        message = result.stderr.decode(errors="replace")
        self.assertEqual(result.returncode, code, message)
        self.assertEqual(message.count("\n"), 1, message)
        self.assertTrue(message.startswith("adze: ["), message)
        for part in parts:
            self.assertIn(str(part), message)
        return message
