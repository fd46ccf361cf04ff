"""Every tag of a method's equation map stands in the file it names, and every tag in the sources
stands in a map: src/methods/*/README.md, rows "| ... | ... | `file` `// [tag]` |"."""
import pathlib
import re
import sys

ROW = re.compile(r"^\|.*\|.*\| `([^`]+)` `// (\[\d\d [^\]]+\])` \|$")
TAG = re.compile(r"\[\d\d §[^\]]+\]")


def main(root: pathlib.Path) -> int:
    sources = root / "src"
    faults, mapped, maps = [], set(), 0
    for readme in sorted(sources.glob("methods/*/README.md")):
        rows = [ROW.match(line) for line in readme.read_text().splitlines()]
        rows = [row.groups() for row in rows if row]
        maps += 1
        if not rows:
            faults.append(f"{readme}: no equation map")
        for file, tag in rows:
            path = sources / file if "/" in file else readme.parent / file
            mapped.add((path, tag))
            if not path.exists() or tag not in path.read_text():
                faults.append(f"{readme}: no {tag} in {file}")
    files = [p for p in sorted(sources.rglob("*")) if p.suffix in {".h", ".cpp", ".cu"}]
    for path in files:
        if path.stem.endswith("_test"):
            continue
        for tag in set(TAG.findall(path.read_text())):
            if (path, tag) not in mapped:
                faults.append(f"{path}: {tag} stands in no equation map")
    print("\n".join(faults) if faults else f"{maps} equation maps, {len(mapped)} tags agree")
    return 1 if faults or not maps else 0


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1])))
