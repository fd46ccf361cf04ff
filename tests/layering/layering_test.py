"""Reads every #include "folder/..." under src/ against LAYERS.txt; only tensor/ spells libtorch."""
import pathlib
import re
import sys

LIBTORCH_FREE = {"core", "kernels", "formats", "text", "data", "serve", "cli"}


def main(root: pathlib.Path) -> int:
    levels = {}
    for line in (root / "LAYERS.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            level, folder = line.split()
            levels[folder] = int(level)
    faults = []
    files = [p for p in sorted((root / "src").rglob("*")) if p.suffix in {".h", ".cpp", ".cu"}]
    for path in files:
        parts = path.relative_to(root / "src").parts
        folder = parts[0]
        if folder not in levels:
            faults.append(f"{path}: folder {folder} is not in LAYERS.txt")
            continue
        for number, line in enumerate(path.read_text().splitlines(), 1):
            libtorch = re.match(r"\s*#\s*include\s*<(torch|ATen|c10)/", line)
            if libtorch and folder != "tensor":
                faults.append(f"{path}:{number}: only tensor/ includes libtorch: {line.strip()}")
            ours = re.match(r'\s*#\s*include\s*"([^/"]+)/([^"]*)"', line)
            if not ours:
                continue
            target = ours.group(1)
            if target not in levels:
                faults.append(f"{path}:{number}: unknown folder {target}")
            elif target != folder and levels[target] >= levels[folder]:
                faults.append(f"{path}:{number}: {folder} (level {levels[folder]}) includes "
                              f"{target} (level {levels[target]})")
            elif target == "tensor" and folder in LIBTORCH_FREE:
                faults.append(f"{path}:{number}: {folder} must not see libtorch")
            elif folder == "methods" and target == "methods" and len(parts) > 2:
                if ours.group(2).split("/")[0] != parts[1]:
                    faults.append(f"{path}:{number}: methods do not include each other")
    print("\n".join(faults) if faults else f"{len(files)} files agree with LAYERS.txt")
    return 1 if faults or not files else 0


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1])))
