#!/usr/bin/env python3
"""The page in Chromium: a chat with the default model, then hostile answers, errors and accessibility with
mock_server.py, which says what a model cannot be made to say. Chromium and its driver come from
make deps-test and tools/test-python; without them or the model the test is skipped.

  tests/web/page_test.py                                  all of it
  tests/web/page_test.py --screenshots docs/screenshots   makes the pictures of the page instead
"""

import argparse
import json
import os
import pathlib
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../support"))
from browser import Browser, DESKTOP, PHONE, PageCase  # finds the packages

import adze_program
import screenshots
from adze_server import Server
from axe_playwright_python.sync_playwright import Axe
from mock_server import MockServer

STORY = "Write a very long story about a lighthouse keeper and his daughter."
REPORT = ("The keeper of the northern lighthouse wrote down every ship that passed, its flag, its course and the "
          "weather, and at the end of each month he sent the pages to the harbour office by the mail boat. ") * 6
GROWING = "Look:\n\n```python\ndef f(x):\n    return x\n```\n\n- one\n- **two**\n\n| a |\n|---|\n| b |"
SERIOUS = ("serious", "critical")
LAB = {"model": "a model", "context": 512, "chunks": 2, "rows": [
    {"policy": "full", "store": "f16", "budget": 1, "perplexity": 14.4, "cache_bytes_per_token": 23040, "pareto": True},
    {"policy": "window", "store": "int4", "budget": 0.5, "perplexity": 15.5, "cache_bytes_per_token": 4000, "pareto": True}]}
minor_remarks = set()  # of axe-core: shown, no failure


class WithModel(PageCase):
    """Real answers. They differ from run to run unless a test sets the temperature."""

    def setUp(self):
        self.chat = self.open_chat()

    def test_text_and_cache_grow_while_the_answer_comes_in(self):
        chat = self.chat
        self.assertTrue(chat.locator("#empty").is_visible())
        chat.evaluate("""() => {
            window.seen = {texts: [], speeds: [], tokens: []};
            new MutationObserver(() => {
              const body = document.querySelector(".assistant.live .body");
              if (body && !body.querySelector(".waiting")) {
                seen.texts.push(body.textContent);
                seen.speeds.push(document.getElementById("decode-speed").textContent);
                seen.tokens.push(document.getElementById("cache-caption").textContent);
              }
            }).observe(document.body, {childList: true, subtree: true, characterData: true});
          }""")
        chat.sampling(max_tokens=96, temperature=0)
        answer = chat.ask(STORY)
        texts, speeds, captions = (chat.evaluate(f"[...new Set(seen.{name})]") for name in ("texts", "speeds", "tokens"))
        self.assertGreater(len(texts), 5)
        # Markdown takes a few characters back when a mark is closed.
        self.assertTrue(all(len(a) <= len(b) + 8 for a, b in zip(texts, texts[1:])), texts)
        self.assertTrue(answer.startswith(texts[-1][:20]))
        self.assertGreater(len([speed for speed in speeds if speed != "–"]), 0, "no speed while it was written")
        self.assertGreater(len(captions), 1, "the picture stood still")
        self.assertIn("96 tokens", chat.facts())
        self.assertIn("ended by the limit of tokens", chat.facts())
        self.assertRegex(chat.text("#cache-caption"), r"^All \d+ tokens are kept in each of 30 layers\.$")
        self.assertRegex(chat.text("#memory-text"), r"^[\d.]+ MB of [\d.]+ MB in full$")
        self.assertRegex(chat.text("#prefill-speed"), r"^[\d,]+$")
        self.assertTrue(chat.locator("#cache-picture .answer").count())
        stored = chat.evaluate("Object.entries(localStorage).find(([key]) => key.startsWith('adze.conversation.'))[1]")
        self.assertEqual(chat.locator("#announcer").text_content(),
                         "Answer: " + json.loads(stored)["messages"][-1]["content"])

    def test_stop_by_button_and_by_key_frees_the_server(self):
        self.chat.sampling(temperature=0)  # a story that never ends: a short one may be over before it is seen to grow
        for stop in (lambda: self.chat.page.click("#send"), lambda: self.chat.press("Escape")):
            self.chat.begin(STORY)
            self.chat.wait("document.querySelector('.message:last-child.live .body')?.textContent.length > 60")
            stop()
            self.chat.wait_answered()
            answer = self.chat.answer()
            self.assertIn("stopped by you", self.chat.facts())
            self.server.wait_idle()
            self.assertEqual(self.chat.answer(), answer)

    def test_regenerate_and_its_way_back(self):
        chat = self.chat
        chat.sampling(max_tokens=12, temperature=1.5)
        chat.ask("Name an animal.")
        chat.ask("And another one.")
        before, facts = chat.messages(), chat.facts()
        chat.act("Answer again")
        chat.wait_answered()
        self.assertEqual(chat.messages()[:3], before[:3])
        self.assertNotEqual(chat.facts(), facts, "the same seed again")
        chat.act("Answer again", ".message.assistant >> nth=0")
        chat.wait_answered()
        self.assertEqual(len(chat.messages()), 2)
        self.assertEqual(chat.messages()[0], before[0])
        chat.page.click("#toast-action")
        self.assertEqual(len(chat.messages()), 4)
        self.assertEqual(chat.messages()[:3], before[:3])

    def test_edit_asks_again_from_there(self):
        chat = self.chat
        chat.sampling(max_tokens=8, temperature=0)
        chat.ask("What is the capital of France?")
        chat.ask("And of Italy?")
        chat.act("Edit and send again", ".message.user >> nth=0")
        chat.press("Escape")
        self.assertEqual(len(chat.messages()), 4)
        chat.act("Edit and send again", ".message.user >> nth=0")
        chat.page.fill(".edit-text", "What is the capital of Spain?")
        chat.press("Enter")
        chat.wait("document.querySelectorAll('.message').length === 2")
        chat.wait_answered()
        self.assertEqual(chat.messages()[0], "What is the capital of Spain?")
        self.assertTrue(chat.answer())
        self.assertEqual([m["content"] for m in chat.bodies[-1]["messages"]], ["What is the capital of Spain?"])
        self.assertEqual(chat.text("#title"), "What is the capital of Spain?")

    def test_another_policy_keeps_fewer_tokens(self):
        chat = self.chat
        chat.sampling(max_tokens=8)
        chat.ask("Who writes down what? " + REPORT)
        full = self.kept()
        self.assertEqual(full["kept"], full["track"])
        self.assertEqual(chat.text("#memory-share"), "100 %")
        chat.policy("window", sinks=4, window=60)
        self.assertIn("window:sinks=4,window=60", chat.text("#cache-chip"))
        chat.act("Answer again")
        chat.wait_answered()
        window = self.kept()
        self.assertLess(window["kept"], 0.6 * window["track"])
        self.assertRegex(chat.text("#cache-caption"), r"^\d+ of \d+ tokens are kept")
        self.assertIn("window", chat.text("#cache-kind"))
        self.assertLess(int(chat.text("#memory-share").split()[0]), 60)
        chat.page.click("#by-layer summary")
        self.assertEqual(chat.locator("#layer-rows tr").count(), 30)
        self.assertIn("0–3, ", chat.text("#layer-rows tr:first-child"))

    def kept(self):
        """Positions in the picture: of the text, and of what is kept of it, over all layers."""
        return {name: sum(int(part.split("H")[1].split("v")[0]) - int(part.split(" ")[0])
                          for part in self.chat.locator(f"#cache-picture .{name}").get_attribute("d").split("M")[1:])
                for name in ("track", "kept")}

    def test_reload_keeps_conversations_and_settings(self):
        chat = self.chat
        chat.sampling(max_tokens=8)
        chat.ask("Name a river.")
        chat.page.click("#new-conversation")
        chat.ask("Name a mountain.")
        before, caption = chat.messages(), chat.text("#cache-caption")
        chat.reload()
        self.assertEqual(chat.locator(".conversation-open").all_inner_texts(), ["Name a mountain.", "Name a river."])
        self.assertEqual(chat.messages(), before)
        self.assertEqual(chat.text("#cache-caption"), caption)
        self.assertEqual(chat.locator("#setting-max_tokens").input_value(), "8")
        chat.page.click(".conversation-open >> nth=1")
        self.assertEqual(chat.messages()[0], "Name a river.")
        chat.locator(".conversation >> nth=1").hover()
        chat.page.click("[aria-label='Delete Name a river.']")
        self.assertEqual(chat.locator(".conversation-open").all_inner_texts(), ["Name a mountain."])
        chat.page.click("#toast-action")
        self.assertEqual(chat.locator(".conversation-open").count(), 2)
        other = self.open_chat()
        self.assertEqual(other.locator(".conversation-open").count(), 0, "another browser sees them")

    def test_reload_in_mid_answer_keeps_what_there_is(self):
        self.chat.sampling(temperature=0)  # never ends
        self.chat.begin(STORY)
        self.chat.wait("document.querySelector('.live .body')?.textContent.length > 60")
        self.chat.reload()
        self.assertGreater(len(self.chat.answer()), 60)
        self.server.wait_idle()
        self.assertEqual(self.chat.locator(".live").count(), 0)

    def test_everything_by_keyboard(self):
        chat = self.chat
        chat.sampling(max_tokens=8, temperature=0)
        chat.page.evaluate("document.activeElement.blur()")
        chat.open()
        self.assertTrue(chat.focused("#prompt"), "the message field has no focus at the start")
        chat.page.keyboard.type("What is the capital of France?")
        chat.press("Enter")
        chat.page.wait_for_selector(".assistant:not(.live) .facts")
        self.assertTrue(chat.focused("#prompt"))
        chat.tab_to("button[aria-label='Answer again']", backwards=True)
        self.assertNotEqual(chat.evaluate("getComputedStyle(document.activeElement).outlineStyle"), "none")
        self.assertEqual(chat.evaluate("getComputedStyle(document.activeElement.parentNode).opacity"), "1")
        chat.tab_to("button[aria-label='Edit and send again']", backwards=True)
        chat.press("Enter", "Control+a")
        chat.page.keyboard.type("What is the capital of Italy?")
        chat.press("Enter")
        chat.wait("document.querySelector('.user .body')?.textContent.includes('Italy')")
        chat.wait_answered()
        self.assertTrue(chat.answer())
        chat.tab_to("#setting-kv_policy")
        chat.press("w")
        chat.tab_to("#setting-kv_policy-window")
        chat.page.keyboard.type("28")
        self.assertEqual(chat.text("#cache-chip"), "cache: window:window=28")
        chat.tab_to("#toggle-theme", backwards=True)
        chat.press("Space")
        self.assertEqual(chat.locator("#toggle-theme").get_attribute("aria-pressed"), "true")
        chat.tab_to("#new-conversation", backwards=True)
        chat.press("Enter")
        self.assertTrue(chat.focused("#prompt"))
        self.assertTrue(chat.locator("#empty").is_visible())
        chat.tab_to(".conversation-open", backwards=True)
        chat.press("Enter")
        self.assertEqual(len(chat.messages()), 2)
        self.assertTrue(chat.focused(".conversation.current .conversation-open"), "the list lost the focus")
        chat.tab_to(".skip", backwards=True)
        chat.press("Enter")
        self.assertTrue(chat.focused("#prompt"))

    def test_phone(self):
        chat = self.open_chat(PHONE)
        self.assert_no_sideways_scroll(chat)
        chat.page.tap("#toggle-panel")
        self.assertTrue(chat.focused("#panel .close-side"))
        chat.sampling(max_tokens=16)
        chat.page.tap("#panel .close-side")
        self.assertTrue(chat.focused("#toggle-panel"))
        chat.ask("Name three rivers.")
        self.assert_no_sideways_scroll(chat)
        chat.page.tap("#cache-chip")
        self.assertTrue(chat.locator("#cache-picture .kept").is_visible())
        self.assertTrue(chat.focused("#setting-kv_policy"))
        self.assert_no_sideways_scroll(chat)
        chat.press("Escape")
        self.assertFalse(chat.locator("#cache-picture").is_visible())
        chat.page.tap("#toggle-history")
        chat.page.tap(".conversation-open")
        self.assertTrue(chat.locator("#prompt").is_visible())

    def test_dark_and_light(self):
        ground = "getComputedStyle(document.body).backgroundColor"
        light, dark = self.chat, self.open_chat(scheme="dark")
        paper, night = light.evaluate(ground), dark.evaluate(ground)
        self.assertNotEqual(paper, night)
        light.page.click("#toggle-theme")
        self.assertEqual(light.evaluate(ground), night)
        light.reload()
        self.assertEqual(light.evaluate(ground), night, "the choice is lost by a reload")
        light.page.click("#toggle-theme")
        self.assertEqual(light.evaluate(ground), paper)
        light.page.emulate_media(color_scheme="dark")
        self.assertEqual(light.evaluate(ground), night, "back at the system's theme the page follows it")

    def test_parameters_reach_the_server_and_faults_do_not(self):
        chat = self.chat
        chat.open_group("System prompt")
        chat.page.fill("#setting-system", "You are a pirate.")
        chat.sampling(max_tokens=4, temperature=0.5, top_p=0.9, top_k=40, min_p=0.05, seed=7, repetition_penalty=1.1,
                      frequency_penalty=0.2, presence_penalty=0.1, stop="END\\n")
        chat.page.select_option("#setting-kv_store", "int8")
        chat.ask("Hello")
        wanted = {"max_tokens": 4, "temperature": 0.5, "top_p": 0.9, "top_k": 40, "min_p": 0.05, "seed": 7,
                  "repetition_penalty": 1.1, "frequency_penalty": 0.2, "presence_penalty": 0.1, "stop": ["END\n"],
                  "kv_store": "int8"}
        self.assertEqual({name: chat.bodies[-1].get(name) for name in wanted}, wanted)
        self.assertEqual(chat.bodies[-1]["messages"][0], {"role": "system", "content": "You are a pirate."})
        self.assertIn("seed 7", chat.facts())
        for field in chat.locator("#settings input, #settings select, #settings textarea").all():
            hint = field.get_attribute("aria-describedby").split()[0]
            if field.evaluate("node => node.value") or "setting-kv" not in hint:
                self.assertTrue(chat.locator(f"[id='{hint}']").text_content(), f"{hint} explains nothing")
        chat.sampling(temperature=200)
        chat.page.fill("#prompt", "Hello again")
        chat.press("Enter")
        self.assertEqual(len(chat.bodies), 1)
        self.assertTrue(chat.focused("#setting-temperature"))
        self.assertIn("between 0 and 100", chat.text("#setting-temperature-fault"))
        chat.page.click("text=Back to the server's settings")
        self.assertEqual(chat.locator("#setting-temperature").input_value(), "")

    def test_the_cache_lab_is_linked_and_drawn(self):
        page = self.chat.page
        self.assertTrue(page.is_visible("#lab-link"))
        with page.context.expect_page() as opened:
            page.click("#lab-link")
        lab = opened.value
        lab.wait_for_load_state()
        self.assertEqual(lab.text_content("h1"), "Cache settings of a model, 2 windows of 512 tokens")
        self.assertEqual(lab.locator("svg circle").count(), 2)
        # Its own style applies under its policy.
        self.assertEqual(lab.evaluate("getComputedStyle(document.querySelector('.frontier')).fill"), "none")
        lab.close()

    def test_pages_say_what_may_run_on_them(self):
        for path in ("/", "/web/main.js"):
            policy = self.server.get(path).headers["content-security-policy"]
            self.assertIn("default-src 'self'", policy)
            self.assertNotIn("unsafe", policy)


class WithoutModel(PageCase):
    """Answers and errors that are written down in mock_server.py."""

    def test_hostile_answers_are_text(self):
        # The second time without the policy that forbids foreign scripts: the page has to hold alone.
        for bypass in (False, True):
            with self.subTest(bypass_csp=bypass):
                chat = self.open_chat(bypass_csp=bypass)
                chat.ask("hostile")
                self.assert_harmless(chat, ".assistant .body")
                answer = chat.answer()
                for shown in ("<script>window.hacked = 2", '<svg onload="window.hacked = 7">', "onerror=",
                              "<iframe src=", "<style>body { display: none }", "onfocus="):
                    self.assertIn(shown, answer)
                links = chat.locator(".assistant .body a[href]").evaluate_all("all => all.map(a => a.href)")
                self.assertIn("https://example.org/page", links)
                self.assertTrue(all(link.startswith(("https:", "http:")) for link in links), links)
                for name in ("click me", "data", "mixed"):
                    self.assertIsNone(chat.locator(f".assistant .body a:text-is('{name}')").get_attribute("href"))
                    chat.locator(f".assistant .body a:text-is('{name}')").click()
                chat.reload()  # what was stored is no safer
                self.assert_harmless(chat, ".assistant .body")

    def test_hostile_words_of_the_reader_and_of_files(self):
        words = "<img src=x onerror='window.hacked = 20'><script>window.hacked = 21</script>"
        chat = self.open_chat(bypass_csp=True)
        chat.ask(words)
        self.assert_harmless(chat, ".user .body", "#title", "#conversations")
        self.assertEqual(chat.messages()[0], words)
        exported = {"format": "adze-conversations", "version": 1, "conversations": [
            {"id": "x\"><img src=x onerror=window.hacked=22>", "title": words,
             "messages": [{"role": "user", "content": words},
                          {"role": "assistant", "content": words, "model": words, "finish": words,
                           "error": {"message": words, "field": words},
                           "adze": {"seed": words, "warnings": [words], "cache": {"store": words, "policy": words}}},
                          {"role": "assistant", "content": "", "usage": {"prompt_tokens": words},
                           "adze": {"timings": words, "cache": {"tokens": 4, "bytes": words, "kept": [7, [[words]]]}}},
                          {"role": "assistant", "content": "", "adze": {"cache": 7, "warnings": words}}]},
            {"messages": "none"}, 7]}
        with tempfile.NamedTemporaryFile(suffix=".json") as file:
            pathlib.Path(file.name).write_text(json.dumps(exported), encoding="utf-8")
            chat.page.set_input_files("#import-file", file.name)
            chat.wait("document.querySelectorAll('.conversation').length === 2")
        self.assertEqual(chat.text("#toast-text"), "1 conversation imported")
        chat.locator(".conversation-open:not([aria-current])").click()
        self.assert_harmless(chat, ".message .body", "#title", "#conversations", ".error", ".warnings", "#panel")

    def assert_harmless(self, chat, *places):
        self.assertIsNone(chat.evaluate("window.hacked ?? null"))
        for place in places:
            for forbidden in ("script", "img", "iframe", "style", "math", "object", "svg[onload]", "[onerror]",
                              "[onclick]", "[onfocus]", "[onmouseover]", "[href^='javascript']", "[href^='data:']"):
                self.assertEqual(chat.locator(f"{place} {forbidden}").count(), 0, f"{place} {forbidden}")
        for selector in (".assistant .body form", ".assistant .body input:not([type=checkbox])"):
            self.assertEqual(chat.locator(selector).count(), 0, selector)

    def test_errors_say_what_to_do(self):
        chat = self.open_chat()
        for words, shown in (("refused", ["legal: 0 to 100", "field temperature"]),
                             ("busy", ["the queue is full", "try again in 3 s"]),
                             ("broken", ["the cache is full", "cache_full"])):
            chat.ask(words)
            for part in shown:
                self.assertIn(part, chat.text(".message:last-child .error"))
        self.assertTrue(chat.answer().startswith("The sky is blue"), "what came before the error is lost")
        self.assertIn("Error: the cache is full", chat.text("#announcer"))
        chat.page.click(".message:last-child .error >> text=Try again")
        chat.wait_answered()
        self.assertEqual(len(chat.messages()), 6)

    def test_a_server_with_a_key(self):
        with MockServer(api_key="sesame") as server:
            chat = self.open_chat(server=server, ready=False)
            for key in ("wrong", "sesame"):
                chat.page.wait_for_selector("#key-dialog[open]")
                chat.wait("document.getElementById('key').value === ''")
                chat.page.fill("#key", key)
                chat.page.press("#key", "Enter")
            chat.wait_ready()
            self.assertFalse(chat.locator("#key-dialog").is_visible())
            self.assertNotIn("sesame", chat.evaluate("JSON.stringify(localStorage)"))

    def test_markdown_is_right_at_every_moment(self):
        chat = self.open_chat()
        shown = chat.evaluate("""async (text) => {
            const {MarkdownView} = await import("/web/markdown.js");
            const node = document.createElement("div");
            const view = new MarkdownView(node);
            const shown = [];
            for (let end = 1; end <= text.length; end += 1) {
              view.update(text.slice(0, end));
              shown.push([text.slice(0, end), node.textContent, node.querySelectorAll("pre").length]);
            }
            const whole = document.createElement("div");
            new MarkdownView(whole).update(text);
            return {shown, grown: node.innerHTML, whole: whole.innerHTML};
          }""", GROWING)
        self.assertEqual(shown["grown"], shown["whole"], "a text that grew looks different from one that came at once")
        for text, visible, blocks in shown["shown"]:
            if "```python\n" in text:
                self.assertEqual(blocks, 1, f"no block of code in {text!r}")
                self.assertNotIn("```python", visible)
        for tag in ("strong", "table", "li"):
            self.assertIn(f"<{tag}>", shown["whole"])

    def test_wide_answers_scroll_within(self):
        chat = self.open_chat(PHONE)
        chat.ask("wide")
        self.assert_no_sideways_scroll(chat)
        chat.ask("tea and coffee")
        self.assert_no_sideways_scroll(chat)
        self.assertTrue(chat.locator(".assistant table").last.is_visible())

    def test_reading_back_while_the_answer_grows(self):
        chat = self.open_chat()
        chat.begin("long")
        chat.wait("document.getElementById('scroller').scrollHeight > "
                                    "document.getElementById('scroller').clientHeight + 300")
        chat.locator("#scroller").hover()
        chat.page.mouse.wheel(0, -2000)
        chat.page.wait_for_selector("#to-end:visible")
        top = chat.evaluate("document.getElementById('scroller').scrollTop")
        length = len(chat.answer())
        chat.wait(f"document.querySelector('.live .body')?.textContent.length > {length}")
        self.assertEqual(chat.evaluate("document.getElementById('scroller').scrollTop"), top)
        chat.page.click("#to-end")
        self.assertFalse(chat.locator("#to-end").is_visible())
        chat.press("Escape")
        chat.wait_answered()

    def test_no_serious_fault_of_accessibility(self):
        for size in (DESKTOP, PHONE):
            for scheme in ("light", "dark"):
                chat = self.open_chat(size, scheme)
                where = f"{scheme}, {size[0]} wide"
                self.assert_accessible(chat, f"empty, {where}")
                chat.ask("tea and coffee")
                chat.ask("hostile")
                chat.ask("refused")
                self.assert_accessible(chat, f"chat, {where}")
                for pane in ("panel", "history") if size == PHONE else ():
                    chat.page.tap(f"#toggle-{pane}")
                    self.assert_accessible(chat, f"{pane}, {where}")
                    chat.press("Escape")
                chat.act("Delete")
                chat.page.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true; })")
                if size == PHONE:
                    chat.page.tap("#toggle-panel")
                chat.policy("window")
                self.assert_accessible(chat, f"settings and a note, {where}")

    def assert_accessible(self, chat, where):
        found = Axe().run(chat.page).response["violations"]
        faults = [f"{fault['id']}: {fault['help']}: {[node['target'] for node in fault['nodes']]}" for fault in found
                  if fault["impact"] in SERIOUS]
        self.assertEqual(faults, [], where)
        minor_remarks.update(fault["id"] for fault in found if fault["impact"] not in SERIOUS)


def run_tests(server):
    PageCase.server = server
    loader, runner = unittest.defaultTestLoader, unittest.TextTestRunner(verbosity=2)
    with MockServer(rate=2000) as WithoutModel.server:
        passed = runner.run(unittest.TestSuite(map(loader.loadTestsFromTestCase, (WithModel, WithoutModel))))
    if minor_remarks:
        print(f"minor remarks of axe-core: {', '.join(sorted(minor_remarks))}", file=sys.stderr)
    return 0 if passed.wasSuccessful() else 1


def main():
    parser = argparse.ArgumentParser(description="tests of the page in Chromium")
    parser.add_argument("--screenshots", metavar="FOLDER", help="make pictures of the page instead")
    options = parser.parse_args()
    adze_program.default_model()
    # The page is the same at any precision; int8 is the faster and what a user gets. On a machine that is busy
    # an answer must not be over before the browser draws its second frame.
    with tempfile.TemporaryDirectory() as folder:
        lab = pathlib.Path(folder, "lab.json")
        lab.write_text(json.dumps(LAB))
        return run(options, lab)


def run(options, lab):
    with Browser() as PageCase.browser, Server("--compute", "int8", "--max-sequences", 2, "--cache-lab", lab,
                                               gives_way=True) as server:
        if options.screenshots:
            return screenshots.make(PageCase.browser, server, options.screenshots)
        return run_tests(server)


if __name__ == "__main__":
    sys.exit(main())
