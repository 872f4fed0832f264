"""Pictures of real output: python docs/images/make.py [NAME ...] runs the commands and writes docs/images/NAME.svg, and
NAME.png of pages, which takes chromium."""

from __future__ import annotations

import io
import os
import shlex
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.text import Text

HERE = Path(__file__).parent
PICTURES = {
    "plan": "roundelay plan minilm --tokens 128",
    "demo": "roundelay demo",
}

PAGES = {
    "report": ("1280,1268", "roundelay bench bert-base --runs 1 --transport tcp --network wan-300m-60ms"),
    "sweep": (
        "1280,1408",
        "roundelay sweep bert-tiny bert-base --network lan-1g,wan-400m-8ms,wan-300m-60ms,wan-100m-80ms "
        "--tokens 32 --tokens 128 --device simulators/devices/reference.json",
    ),
}
"""Commands whose --report is a picture: the upper part of the page, of this size."""

# rich's own format without its frame of window buttons, and without fonts that a viewer would have to fetch.
# It places characters 12.2 apart: at 20.26 px these fonts are that wide, so that runs of text meet.
FORMAT = """<svg viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: DejaVu Sans Mono, Menlo, Consolas, monospace; font-size: 20.26px; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
</clipPath>
{lines}
</defs>
<rect width="{width}" height="{height}" rx="8" fill="#292929" />
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


def output(command: str) -> str:
    """What the command prints, errors raised; colours kept."""
    program, *args = shlex.split(command)
    environment = {**os.environ, "FORCE_COLOR": "1", "OPENBLAS_NUM_THREADS": "1"}
    beside = Path(sys.executable).with_name(program)
    return subprocess.run([beside, *args], env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout


def picture(name: str) -> Path:
    """Write the picture of one command."""
    command = PICTURES[name]
    text = Text.assemble(("$ ", "bold green"), (command, "bold"), "\n", Text.from_ansi(output(command).rstrip()))
    width = max(line.cell_len for line in text.split())
    console = Console(record=True, width=width, file=io.StringIO())
    console.print(text)
    path = HERE / f"{name}.svg"
    console.save_svg(str(path), title=command, code_format=FORMAT, unique_id=f"roundelay-{name}")
    return path


def page_picture(name: str) -> Path:
    """Write the picture of one command's page."""
    path = HERE / f"{name}.png"
    with TemporaryDirectory() as folder:
        page = Path(folder) / "page.html"
        size, command = PAGES[name]
        output(f"{command} --report {page}")
        browser = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        shot = [f"--window-size={size}", f"--user-data-dir={folder}/profile", f"--screenshot={path}"]
        subprocess.run([*browser, "--virtual-time-budget=3000", *shot, page.as_uri()], check=True)
    return path


if __name__ == "__main__":
    for chosen in sys.argv[1:] or [*PICTURES, *PAGES]:
        print(page_picture(chosen) if chosen in PAGES else picture(chosen))
