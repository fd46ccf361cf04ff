"""Pictures of the page with the default model, for docs/screenshots. Used by page_test.py --screenshots."""

import pathlib
import struct
import zlib

from browser import Chat

QUESTIONS = ("Why is the sky blue? Explain it to a ten-year-old in four sentences.",
             "Give me three tips for a good night's sleep.")
SIZE, PHONE_SIZE = (1280, 800), (390, 780)
SIGNATURE = b"\x89PNG\r\n\x1a\n"


def smaller(png):
    """The same pixels: Chromium packs for speed."""
    chunks, packed, position = [], b"", len(SIGNATURE)
    while position < len(png):
        length = struct.unpack(">I", png[position:position + 4])[0]
        kind, data = png[position + 4:position + 8], png[position + 8:position + 8 + length]
        if kind == b"IDAT":
            packed += data
        else:
            chunks.append((kind, data))
        position += length + 12
    chunks.insert(-1, (b"IDAT", zlib.compress(zlib.decompress(packed), 9)))
    return SIGNATURE + b"".join(struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
                                for kind, data in chunks)


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


def take(chat, file):
    chat.page.wait_for_timeout(300)  # fades are over
    file.write_bytes(smaller(chat.page.screenshot()))
    print(f"{file}: {file.stat().st_size:,} bytes")


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
