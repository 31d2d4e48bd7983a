"""Account for an answer to a small question, and draw the README's picture of the page.

    python benchmarks/write_account.py [MODEL]

MODEL is a Hugging Face folder or hub name; the README's is HuggingFaceTB/SmolLM2-135M-Instruct. Its account is kept in
benchmarks/measured/accounts/example.json. Without MODEL, the picture is drawn again from what is kept. It is drawn by
Chromium, which has to be installed: apt-get install chromium.

The example is for readers, and its numbers are what they are. Three sets of sources were written before any was
measured. This one, a memo that overrules a handbook, is understood fastest; in another the model answers wrongly, in
the third two sources say the same. Without the line break before "Answer:" this model writes no answer.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

from progloc import Account, account
from progloc.errors import ProglocError
from progloc.files import read_json, write_json
from progloc.resolve import resolve
from scripts import run_script, script_parser

ROOT = Path(__file__).parents[1]
DATA = ROOT / "benchmarks" / "measured" / "accounts" / "example.json"
PICTURE = ROOT / "docs" / "images" / "account-page.png"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
WIDTH, MARGIN = 860, 16
"""Of the picture, in CSS pixels. It shows the page as far as the last source's bars."""
COLOURS = 64

SOURCES = (
    ("Handbook", "Travel up to 500 euros is approved by the team lead. Anything above that is approved by the finance "
                 "director."),
    ("Memo of 3 March", "From April, the finance director no longer approves travel. The head of operations does."),
    ("Minutes", "The board met on Tuesday. It discussed the new office and thanked Ms Ortiz for her work."),
    ("Canteen menu", "Monday: lentil soup. Tuesday: baked fish. Wednesday: mushroom risotto."),
)  # fmt: skip
QUESTION = "Question: Who approves a trip abroad?\nAnswer:"


def draw(result: Account) -> None:
    """Write the picture of an account's page."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise ProglocError("no Chromium to draw the page with; run apt-get install chromium, then this again")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        raise ProglocError("no playwright to drive Chromium with; run make setup, then this again") from error
    with TemporaryDirectory() as folder, sync_playwright() as playwright:
        page = Path(folder, "account.html")
        page.write_text(result.to_html(), encoding="utf-8")
        chromium = playwright.chromium.launch(executable_path=browser)
        tab = chromium.new_page(viewport={"width": WIDTH, "height": WIDTH}, device_scale_factor=2)
        tab.goto(page.as_uri())
        last = tab.locator(".source").last.bounding_box() or {"y": 0, "height": WIDTH}
        clip = {"x": 0, "y": 0, "width": WIDTH, "height": last["y"] + last["height"] + MARGIN}
        tab.screenshot(path=PICTURE, full_page=True, clip=clip)
        chromium.close()
    Image.open(PICTURE).quantize(COLOURS).save(PICTURE, optimize=True)


def main() -> None:
    """Account if a model is given, and draw."""
    parser = script_parser(__doc__)
    parser.add_argument("model", metavar="MODEL", nargs="?")
    options = parser.parse_args()
    if options.model is not None:
        named = resolve(options.model)
        result = account(named.load(), SOURCES, QUESTION, tokenizer=named.load_tokenizer(), max_new_tokens=24)
        write_json(DATA, result.to_dict())
    draw(Account.from_dict(read_json(DATA)))


if __name__ == "__main__":
    run_script(main)
