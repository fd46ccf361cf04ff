"""Debian's Chromium without a window, and what every test of the page asks of it: nothing outside the
server is requested, and no script fails."""

import os
import shutil
import sys
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../support"))
import test_python

test_python.need("axe_playwright_python", "web")
from playwright.sync_api import sync_playwright

SKIPPED = 77  # ctest's SKIP_RETURN_CODE
DESKTOP, PHONE = (1280, 800), (360, 740)
PATIENCE_SECONDS = 120  # on a machine that is busy with other things
CHROMIUM = shutil.which("chromium")
if CHROMIUM is None:
    print("skipped: there is no chromium on this machine; make deps-test installs it")
    sys.exit(SKIPPED)
# Names lead nowhere, so that a request which should not have been made is seen here and by nobody else.
ARGUMENTS = ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--disable-background-networking",
             "--disable-lcd-text"]  # coloured edges of letters are right for one screen only


class Browser:
    """One for all tests: starting it takes longer than most of them."""

    def __enter__(self):
        self.playwright = sync_playwright().start()
        self.chromium = self.playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        return self

    def __exit__(self, *_):
        self.chromium.close()
        self.playwright.stop()

    def context(self, size=DESKTOP, scheme="light", **options):
        phone = size[0] < 600
        context = self.chromium.new_context(
            viewport={"width": size[0], "height": size[1]}, color_scheme=scheme, is_mobile=phone, has_touch=phone,
            reduced_motion="reduce", **options)
        context.set_default_timeout(1000 * PATIENCE_SECONDS)
        return context


class Chat:
    """The page in one tab, spoken to as a reader would."""

    def __init__(self, context, address, ready=True):
        self.address, self.outside, self.faults, self.bodies = address, [], [], []
        self.page = context.new_page()
        self.page.on("request", self._note)
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.faults.append("a dialog"), dialog.dismiss()))
        self.open(ready)

    def _note(self, request):
        if not request.url.startswith((self.address + "/", "blob:" + self.address)):
            self.outside.append(request.url)
        if request.method == "POST":
            self.bodies.append(request.post_data_json)

    def open(self, ready=True):
        self.page.goto(self.address + "/")
        if ready:
            self.wait_ready()

    def reload(self):
        self.page.reload()
        self.wait_ready()

    def wait_ready(self):
        self.wait("document.querySelectorAll('#setting-kv_policy option').length > 1")

    def wait(self, condition):
        """Until a JavaScript expression is true. Playwright's own way needs eval, which the page's policy forbids."""
        end = time.monotonic() + PATIENCE_SECONDS
        while not self.page.evaluate(condition):
            if time.monotonic() > end:
                raise AssertionError(f"never true: {condition}")
            self.page.wait_for_timeout(10)

    def evaluate(self, script, argument=None):
        return self.page.evaluate(script, argument)

    def locator(self, selector):
        return self.page.locator(selector)

    def text(self, selector):
        return self.page.locator(selector).inner_text()

    # --- the conversation ---

    def begin(self, text):
        """Sends a message and waits until its answer has started."""
        before = self.locator(".message").count()
        self.page.fill("#prompt", text)
        self.page.press("#prompt", "Enter")
        self.wait(f"document.querySelectorAll('.message').length === {before + 2}")

    def wait_answered(self):
        self.page.wait_for_selector("#send:not(.busy)")

    def ask(self, text):
        self.begin(text)
        self.wait_answered()
        return self.answer()

    def answer(self):
        return self.locator(".assistant .body").last.text_content()

    def messages(self):
        return self.locator(".message .body").all_text_contents()

    def facts(self):
        return self.locator(".assistant .facts").last.inner_text()

    def act(self, label, message=".message.assistant >> nth=-1"):
        """Presses a button of a message."""
        self.locator(f"{message} >> button[aria-label='{label}']").click()

    # --- settings ---

    def open_group(self, title):
        group = self.locator(f"details.group:has(> summary:text-is('{title}'))")
        if group.get_attribute("open") is None:
            group.locator("summary").click()

    def sampling(self, **values):
        self.open_group("Sampling")
        for name, value in values.items():
            self.page.fill(f"#setting-{name}", str(value))

    def policy(self, name, **options):
        self.page.select_option("#setting-kv_policy", name)
        for option, value in options.items():
            self.page.fill(f"#setting-kv_policy-{option}", str(value))

    # --- the keyboard ---

    def focused(self, selector):
        return self.evaluate("(selector) => document.activeElement.matches(selector)", selector)

    def tab_to(self, selector, backwards=False, most=80):
        for _ in range(most):
            if self.focused(selector):
                return
            self.page.keyboard.press("Shift+Tab" if backwards else "Tab")
        raise AssertionError(f"{selector} is not reached by Tab")

    def press(self, *keys):
        for key in keys:
            self.page.keyboard.press(key)


class PageCase(unittest.TestCase):
    """A test class has `server`; a test has `open_chat`, whose pages are checked when it ends."""

    browser = None  # set by the program

    def open_chat(self, size=DESKTOP, scheme="light", server=None, ready=True, **options):
        context = self.browser.context(size, scheme, **options)
        self.addCleanup(context.close)
        chat = Chat(context, (server or self.server).url, ready)
        self.addCleanup(self.check, chat)
        return chat

    def check(self, chat):
        self.assertEqual(chat.outside, [], "the page made requests to others")
        self.assertEqual(chat.faults, [])

    def assert_no_sideways_scroll(self, chat):
        self.assertLessEqual(chat.evaluate("document.documentElement.scrollWidth"),
                             chat.evaluate("document.documentElement.clientWidth"))
