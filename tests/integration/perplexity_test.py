"""Perplexity of the default model under llama.cpp's protocol. llama.cpp itself prints 19.03."""

import json
import os
import pathlib
import sys
import unittest

import adze_program

TEXT = pathlib.Path(os.environ.get("ADZE_SHARED", "")) / "data/text/wikitext2-test.txt"


class Perplexity(adze_program.Case):
    def test_wikitext(self):
        result = self.object("perplexity", "--file", TEXT, "--bytes", 300000, "--protocol",
                             "llama.cpp", "--context", 512, "--chunks", 40, "--threads", 2,
                             timeout=1200)
        print(json.dumps(result))
        self.assertGreater(result["perplexity"], 18.85)
        self.assertLess(result["perplexity"], 19.15)
        # Rows 256 to 510 of each window predict a token that is scored.
        self.assertEqual(result["tokens"], 40 * 255)
        self.assertGreater(result["seconds"], 0)


if __name__ == "__main__":
    if "ADZE_SHARED" not in os.environ or not TEXT.is_file():
        print("skipped: ADZE_SHARED names no folder with data/text/wikitext2-test.txt")
        sys.exit(adze_program.SKIPPED)
    adze_program.default_model()
    unittest.main()
