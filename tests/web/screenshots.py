"""Pictures of the page with the default model, for docs/screenshots. Used by page_test.py --screenshots."""

import io
import pathlib

from browser import Chat
from PIL import Image

QUESTIONS = ("Why is the sky blue? Explain it to a ten-year-old in four sentences.",
             "Give me three tips for a good night's sleep.")
SIZE, PHONE_SIZE = (1280, 800), (390, 780)


def take(chat, file):
    """With 256 colours, which a page without photographs is content with: a third of the bytes."""
    chat.page.wait_for_timeout(300)  # fades are over
    picture = Image.open(io.BytesIO(chat.page.screenshot())).convert("RGB")
    picture.quantize(256, Image.Quantize.MEDIANCUT, kmeans=2, dither=Image.Dither.NONE).save(file, optimize=True)
    print(f"{file}: {file.stat().st_size:,} bytes")


def talk(chat, **policy):
    chat.sampling(temperature=0, max_tokens=200)
    chat.open_group("Sampling")
    chat.locator("summary:text-is('Sampling')").click()
    if policy:
        chat.policy("window", **policy)
    for question in QUESTIONS:
        chat.ask(question)
    chat.evaluate("document.getElementById('panel').scrollTop = 0")
    chat.page.mouse.move(640, 5)


def make(browser, server, folder):
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    light = Chat(browser.context(SIZE), server.url)
    take(light, folder / "start-light.png")
    talk(light)
    take(light, folder / "chat-light.png")
    dark = Chat(browser.context(SIZE, "dark"), server.url)
    talk(dark, sinks=4, window=92)
    take(dark, folder / "chat-dark-window.png")
    phone = Chat(browser.context(PHONE_SIZE), server.url)
    phone.ask(QUESTIONS[0])
    take(phone, folder / "phone-chat.png")
    phone.page.tap("#toggle-panel")
    take(phone, folder / "phone-cache.png")
