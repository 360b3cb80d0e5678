"""Writes docs/images: the first screen of the demo's report, and its attacks side by side.

    python docs/make_pictures.py             runs the demo in a temporary folder
    python docs/make_pictures.py DEMO        takes a demo that has run already

Needs chromium. What it shows is looked at by people, not compared by a test.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

IMAGES = Path(__file__).parent / "images"
ATTACKS = """
.top, .contents, main > section:not(#robustness), .curve .scroll { display: none !important }
main > section { margin-top: 2rem } .page { display: block !important; max-width: 66rem }
"""
"""Leaves of a report the figures of its attacks."""
PICTURES = {"report.png": ("planted", ""), "robustness.png": ("clean", ATTACKS)}
"""File -> which of the demo's audits, and what is left out of its report."""
WIDTH, HEIGHT, SCALE = 1360, 1020, 2
COLOURS = 128
MOST_BYTES = 300_000
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


def main() -> None:
    """Make the pictures."""
    with tempfile.TemporaryDirectory() as folder:
        demo = Path(sys.argv[1]) if len(sys.argv) > 1 else demonstrated(Path(folder) / "demo")
        IMAGES.mkdir(exist_ok=True)
        for name, (audit, style) in PICTURES.items():
            taken, page = Path(folder) / name, Path(folder) / f"{name}.html"
            text = (demo / audit / "report.html").read_text(encoding="utf-8")
            page.write_text(
                text.replace("</head>", f"<style>{style}</style></head>", 1), encoding="utf-8"
            )
            screenshot(page, taken)
            small = Image.open(taken).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
            small.save(IMAGES / name, optimize=True)
    for name in PICTURES:
        size = (IMAGES / name).stat().st_size
        print(f"{IMAGES / name}: {size:,} bytes")
        if size > MOST_BYTES:
            sys.exit(f"expected at most {MOST_BYTES:,} bytes")


def demonstrated(folder: Path) -> Path:
    """Run the demo, which ends with 1 because its defects are found."""
    subprocess.run(  # noqa: S603  (our own command)
        [sys.executable, "-m", "dlaudit", "demo", "--out", str(folder), "--quiet"], check=False
    )
    return folder


def screenshot(page: Path, picture: Path) -> None:
    """The first screen of a page, at twice the resolution, without any network."""
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        sys.exit(f"expected a browser, found none of {', '.join(BROWSERS)}")
    subprocess.run(  # noqa: S603  (a browser of this machine, a page of our own)
        [
            browser, "--headless", "--no-sandbox", "--hide-scrollbars", "--disable-gpu",
            f"--window-size={WIDTH},{HEIGHT}", f"--force-device-scale-factor={SCALE}",
            f"--screenshot={picture}", page.resolve().as_uri(),
        ],
        check=True, capture_output=True,
    )  # fmt: skip


if __name__ == "__main__":
    main()
