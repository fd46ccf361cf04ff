#!/usr/bin/env python3
"""Writes files into a C++ source:  embed_web_files.py SOURCE NAME=FILE...   (/web/NAME; index.html is /, openapi.json stays)"""
import hashlib
import pathlib
import sys

TYPES = {".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8",
         ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml", ".png": "image/png",
         ".json": "application/json"}
BYTES_A_LINE = 60


def literal(content: bytes) -> str:
    """A string literal, a line of it for each BYTES_A_LINE; octal escapes always have three digits."""
    def spelled(byte: int) -> str:
        plain = 32 <= byte < 127 and byte not in b'"\\?'
        return chr(byte) if plain else f"\\{byte:03o}"
    lines = (content[i:i + BYTES_A_LINE] for i in range(0, len(content), BYTES_A_LINE))
    return "\n".join('    "' + "".join(map(spelled, line)) + '"' for line in lines) or '    ""'


def main(source: str, *pairs: str) -> int:
    entries = []
    for name, file in sorted(pair.split("=", 1) for pair in pairs):
        path = pathlib.Path(file)
        if path.suffix not in TYPES:
            sys.exit(f"embed_web_files: no content type is known for {file}")
        content = path.read_bytes()
        served = {"index.html": "/", "openapi.json": "/openapi.json"}.get(name, f"/web/{name}")
        etag = hashlib.sha256(content).hexdigest()[:32]
        entries.append(f'  {{"{served}", "{TYPES[path.suffix]}", {{\n{literal(content)},\n'
                       f'    {len(content)}}}, "\\"{etag}\\""}},\n')
    text = ('// Written by cmake/embed_web_files.py.\n#include "serve/web_files_table.h"\n\n'
            'namespace adze::serve {\n\nnamespace {\n\nconstexpr WebFile kFiles[] = {\n' + "".join(entries) +
            '};\n\n}  // namespace\n\nstd::span<const WebFile> web_files() { return kFiles; }\n\n'
            '}  // namespace adze::serve\n')
    path = pathlib.Path(source)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="ascii")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
