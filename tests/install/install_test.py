"""Installs into an empty folder; the installed program must run without the clone's libraries.

install_test.py CMAKE BUILD_FOLDER SOURCE_FOLDER
"""
import os
import pathlib
import subprocess
import sys
import tempfile


def run(command, **options) -> str:
    result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                            **options)
    if result.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}: exit {result.returncode}\n"
                 f"{result.stdout}{result.stderr}")
    return result.stdout


def libraries(program: pathlib.Path) -> dict[str, str]:
    """Name -> file, as the dynamic loader resolves them."""
    found = {}
    for line in run([program], env={"LD_TRACE_LOADED_OBJECTS": "1"}).splitlines():
        name, arrow, target = line.strip().partition(" => ")
        if arrow:
            found[name] = target.rsplit(" (", 1)[0]
    return found


def main(cmake: str, build: str, source: str) -> int:
    with tempfile.TemporaryDirectory(prefix="install-", dir=build) as folder:
        prefix = pathlib.Path(folder).resolve()
        run([cmake, "--install", build, "--prefix", prefix])
        program = prefix / "bin" / "adze"
        resolved = libraries(program)
        faults = []
        for name, target in sorted(resolved.items()):
            inside_clone = os.path.realpath(target).startswith(os.path.realpath(source) + os.sep)
            if target == "not found":
                faults.append(f"{name} is not found")
            elif inside_clone and not os.path.realpath(target).startswith(str(prefix) + os.sep):
                faults.append(f"{name} comes from the clone: {target}")
        if "libc.so.6" not in resolved:
            faults.append("the loader listed no libraries")
        for name in ("LICENSE", "NOTICE"):
            if not (prefix / "share" / "doc" / "adze" / name).is_file():
                faults.append(f"share/doc/adze/{name} is not installed")
        version = run([program, "--version"], env={}, cwd="/").strip()
        if not version.startswith("adze "):
            faults.append(f"--version says {version!r}")
        print("\n".join(faults) if faults else
              f"{version}: {len(resolved)} libraries resolve outside the clone")
        return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
