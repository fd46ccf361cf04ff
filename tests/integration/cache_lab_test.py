"""adze cache-lab with the default model: its figures against others' derivations, what cannot be, the drawing."""

import json
import os
import pathlib
import sys
import tempfile
import unittest

import adze_program

TEXT = pathlib.Path(os.environ.get("ADZE_SHARED", "")) / "data/text/wikitext2-test.txt"


class CacheLab(adze_program.Case):
    def rows(self, *arguments, context=512):
        found = self.object("cache-lab", "--file", TEXT, "--context", context, "--chunks", 1, *arguments, timeout=600)
        return {(row["policy"], row["store"], row["budget"]): row for row in found["rows"]}

    def test_fewer_bits_cost_more(self):
        rows = self.rows("--policies", "full", "--stores", "f16", "deco:bits=4", "deco:bits=1", "--budgets", 1,
                         "--measures", "perplexity", "agreement")
        full, four, one = (rows["full", store, 1] for store in ("f16", "deco:bits=4", "deco:bits=1"))
        self.assertEqual((full["top1_agreement"], full["kl"]), (1, 0))
        # The second half of a window is what llama.cpp's protocol scores.
        alone = self.object("perplexity", "--file", TEXT, "--context", 512, "--chunks", 1, "--protocol", "llama.cpp")
        self.assertAlmostEqual(full["perplexity"] / alone["perplexity"], 1, delta=1e-3)
        self.assertLess(abs(four["perplexity"] / full["perplexity"] - 1), 0.03)
        self.assertGreater(one["perplexity"], 1.1 * full["perplexity"])
        self.assertGreater(one["kl"], 10 * four["kl"])
        self.assertLess(one["top1_agreement"], four["top1_agreement"])
        # 30 layers of keys and values, 3 heads of 64, 2 bytes a number.
        self.assertEqual(full["cache_bytes_per_token"], 30 * 2 * 3 * 64 * 2)
        self.assertLess(one["cache_bytes_per_token"], four["cache_bytes_per_token"])

    def test_policies_keep_their_share(self):
        with tempfile.TemporaryDirectory() as folder:
            drawing = pathlib.Path(folder) / "lab.html"
            rows = self.rows("--policies", "full", "window:sinks=4", "--stores", "f16", "--budgets", 1, 0.5, 0.01,
                             "--out", drawing, context=256)
            text = drawing.read_text()
        self.assertEqual(len(rows), 6)
        for row in rows.values():
            if "skipped" in row:
                self.assertNotIn("perplexity", row)
                continue
            for name in ("perplexity", "top1_agreement", "kl", "needle_recall", "cache_bytes_per_token",
                         "prefill_tokens_per_second", "decode_tokens_per_second"):
                self.assertGreaterEqual(row[name], 0, name)
        full, half = rows["full", "f16", 1], rows["window:sinks=4", "f16", 0.5]
        self.assertEqual(rows["full", "f16", 0.5]["skipped"], "full keeps every token")
        self.assertIn("keeps at least 5 tokens", rows["window:sinks=4", "f16", 0.01]["skipped"])
        self.assertLess(half["cache_bytes_per_token"], 0.51 * full["cache_bytes_per_token"])
        self.assertGreater(half["perplexity"], full["perplexity"])
        for part in ("<svg", "window:sinks=4", "full keeps every token"):
            self.assertIn(part, text)

    def test_what_is_measured_does_not_change_the_bytes(self):
        arguments = ("--policies", "snapkv", "--stores", "deco:bits=4", "--budgets", 0.5)
        speed = self.rows(*arguments, "--measures", "speed", context=640)
        agreement = self.rows(*arguments, "--measures", "agreement", context=640)
        row = "snapkv", "deco:bits=4", 0.5
        self.assertEqual(speed[row]["cache_bytes_per_token"], agreement[row]["cache_bytes_per_token"])

    def test_a_budget_is_what_the_cache_may_hold(self):
        rows = self.rows("--policies", "window", "pyramid", "pyramid:preset=llama2-13b", "--stores", "f16", "--budgets",
                         0.3, 0.75, "--measures", "speed", context=1472)
        for policy, budget, reason in (("window", 0.75, "holds at most 1056 tokens"), ("pyramid", 0.3, "to 1 with the preset"),
                                       ("pyramid:preset=llama2-13b", 0.3, "to 1 with the preset")):
            self.assertIn(reason, rows[policy, "f16", budget]["skipped"])
        self.assertNotIn("skipped", rows["pyramid:preset=llama2-13b", "f16", 0.75])
        self.assertNotIn("skipped", rows["window", "f16", 0.3])
        short = self.rows("--policies", "pyramid", "--stores", "f16", "--budgets", 0.5, "--measures", "speed", context=256)
        self.assertIn("of a prompt of 128 tokens", short["pyramid", "f16", 0.5]["skipped"])

    def test_what_cannot_be_is_refused(self):
        for arguments, legal in ((("--policies", "nope"), "one of full, window, h2o"),
                                 (("--stores", "int8:bits=4"), "int8"),
                                 (("--budgets", "1.5"), "at most 1"),
                                 (("--budgets", "0"), "above 0"),
                                 (("--measures", "speeed"), "perplexity, agreement, needle"),
                                 (("--context", "100"), "128")):
            result = adze_program.run("cache-lab", "--file", TEXT, *arguments)
            self.assertEqual(result.returncode, 2, arguments)
            self.assertIn(legal, result.stderr.decode(), arguments)


if __name__ == "__main__":
    if "ADZE_SHARED" not in os.environ or not TEXT.is_file():
        print("skipped: ADZE_SHARED names no folder with data/text/wikitext2-test.txt")
        sys.exit(adze_program.SKIPPED)
    adze_program.default_model()
    unittest.main()
