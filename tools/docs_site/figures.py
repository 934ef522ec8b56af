"""Makes the terminal recordings and the report's screenshot in docs/figures again, from real runs.

    python tools/docs_site/figures.py [run] [diff] [report]

Without a name all of them, a few minutes on two cores. Needs chromium for the report. The runs have the code of the
commit that is checked out, from a clone, whatever is edited meanwhile.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

from docs_site import terminal  # noqa: E402 (found by the line above)

FIGURES = ROOT / "docs" / "figures"
NDREPRO = "ndrepro"
WIDTH = 98
EXPERIMENT = "lenet_nd_5_digits"


def variables(folder: Path) -> dict[str, str]:
    """A clean environment with a key home of its own."""
    path = f"{ROOT / '.venv' / 'bin'}:{os.environ.get('PATH', '/usr/bin:/bin')}"
    return {
        "PATH": path,
        "PYTHONPATH": str(folder / "checkout"),
        "HOME": str(folder),
        "NDREPRO_HOME": str(folder / "keys"),
        "TERM": "xterm-256color",
        "LANG": "C.UTF-8",
    }


def terminal_picture(name: str, title: str, commands: list[list[str]], folder: Path) -> None:
    """Record commands, and write the SVG."""
    screen = terminal.record(commands, folder, variables(folder), WIDTH)
    out = FIGURES / f"terminal-{name}.svg"
    out.write_text(terminal.picture(screen, title, WIDTH), encoding="utf-8")
    print(f"{out.relative_to(ROOT)}: {out.stat().st_size // 1000} KB")


def run(folder: Path) -> None:
    """A first run, and its verification."""
    terminal_picture("run", "A run, trained and verified", [[NDREPRO, "run"], [NDREPRO, "verify"]], folder)


def diff(folder: Path) -> None:
    """The same training with two threads and with one, compared."""
    for threads in ("2", "1"):
        train(folder, EXPERIMENT, "--threads", threads, "--runs", f"threads-{threads}")
    command = [NDREPRO, "diff", f"threads-2/{EXPERIMENT}", f"threads-1/{EXPERIMENT}", "--locate"]
    terminal_picture("diff", "Where two runs diverge, and why", [command], folder)


def report(folder: Path) -> None:
    """The report of three seeds of two methods, as a browser shows it."""
    for method in ("bn", "nd"):
        for seed in ("0", "1", "2"):
            train(folder, f"lenet_{method}_5_digits", "--seed", seed)
    subprocess.run([NDREPRO, "report", "--runs", "runs", "-o", "report"], cwd=folder, env=variables(folder), check=True)
    browser = shutil.which("chromium") or shutil.which("google-chrome") or "chromium"
    out = FIGURES / "report.png"
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1280,1180"]
    page = (folder / "report" / "index.html").as_uri()
    subprocess.run([browser, *options, f"--screenshot={out}", page], check=True, capture_output=True)
    print(f"{out.relative_to(ROOT)}: {out.stat().st_size // 1000} KB")


def train(folder: Path, *words: str) -> None:
    """Train one run, quietly."""
    subprocess.run([NDREPRO, "run", *words, "--quiet"], cwd=folder, env=variables(folder), check=True)


SCENES = {"run": run, "diff": diff, "report": report}


def main(names: list[str]) -> int:
    """Make the named figures, or all; 2 for an unknown name."""
    if not set(names) <= set(SCENES):
        print(__doc__, file=sys.stderr)
        return 2
    for name in names or SCENES:
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run(["git", "clone", "--quiet", str(ROOT), f"{folder}/checkout"], check=True)
            SCENES[name](Path(folder))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
