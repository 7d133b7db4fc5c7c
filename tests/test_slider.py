"""Sliders, in a real browser: on a page, in Colab's sandboxed frame, in JupyterLab, and without scripts."""

import base64
import io
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import matplotlib as mpl

mpl.use("agg")

import matplotlib.pyplot as plt
import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output
from PIL import Image

from attn import plots

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
NAMES = ["width 1", "width <2>", "width 3"]
ALT = 'a bar as wide as the "width"'


@pytest.fixture
def bundle(monkeypatch) -> dict:
    """What a notebook would keep of a slider: its data and metadata."""
    return shown(monkeypatch)


def shown(monkeypatch, **options) -> dict:
    seen = {}
    monkeypatch.setattr(
        "IPython.display.display",
        lambda data, raw, metadata: seen.update(data=data, metadata=metadata) if raw else None,
    )
    frames = {}
    for width, name in enumerate(NAMES, start=1):
        frames[name], ax = plt.subplots(figsize=(4, 1))
        ax.barh([0], [width])
        ax.set_xlim(0, 3)
    plots.slider(frames, ALT, label="window width", **options)
    assert not plt.get_fignums(), "a slider closes its figures"
    return seen


def image(encoded: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(encoded)))


# What is stored


def test_the_notebook_keeps_a_page_a_picture_and_words(bundle):
    assert set(bundle["data"]) == {"text/html", "image/png", "text/plain"}
    assert bundle["metadata"]["image/png"]["alt"] == f"width 1: {ALT}"
    assert image(bundle["data"]["image/png"]).size == (400, 100)
    assert bundle["data"]["image/png"] in bundle["data"]["text/html"]
    assert "http" not in bundle["data"]["text/html"], "a slider loads nothing"


def test_the_first_frame_can_be_chosen(monkeypatch, bundle):
    assert shown(monkeypatch, start=2)["data"]["image/png"] != bundle["data"]["image/png"]


@pytest.mark.parametrize(
    ("frames", "options", "message"),
    [
        (1, {}, "two frames or more"),
        (3, {"start": 3}, "two frames or more"),
        (3, {"alt": " "}, "needs alt text"),
    ],
)
def test_what_makes_no_slider_is_refused(frames, options, message):
    figures = {str(i): plt.figure() for i in range(frames)}
    with pytest.raises(ValueError, match=message):
        plots.slider(figures, **{"alt": "words", "label": "x", **options})
    plt.close("all")


# What a reader sees

browser_only = pytest.mark.skipif(
    CHROMIUM is None and not os.environ.get("CI"), reason="no Chromium here: install the package chromium"
)


@pytest.fixture(scope="module")
def browser() -> Iterator:
    from playwright.sync_api import sync_playwright

    assert CHROMIUM, "CI needs Chromium: install the package chromium"
    with sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        yield chromium
        chromium.close()


def works(place) -> None:
    """Move the slider of `place`, a page or a frame, from its first frame to its last and back."""
    picture, handle, words = place.locator("img"), place.locator("input[type=range]"), place.locator("output")
    handle.wait_for()
    first = picture.get_attribute("src")
    assert handle.is_visible()
    assert (words.inner_text(), picture.get_attribute("alt")) == (NAMES[0], f"{NAMES[0]}: {ALT}")
    seen = {first}
    for name in NAMES[1:]:
        handle.press("ArrowRight")
        assert (words.inner_text(), picture.get_attribute("alt")) == (name, f"{name}: {ALT}")
        seen.add(picture.get_attribute("src"))
        assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") == 400
    assert len(seen) == 3
    handle.press("Home")
    assert picture.get_attribute("src") == first


@browser_only
def test_on_a_page(browser, bundle):
    page = browser.new_page()
    page.set_content(f"<p>before</p>{bundle['data']['text/html']}")
    works(page)
    page.close()


@browser_only
def test_two_on_a_page_do_not_move_each_other(browser, bundle):
    page = browser.new_page()
    page.set_content(2 * f"<section>{bundle['data']['text/html']}</section>")
    first, second = page.locator("section").all()
    works(second)
    second.locator("input").press("End")
    works(first)
    assert second.locator("output").inner_text() == NAMES[-1]
    page.close()


@browser_only
def test_in_a_sandboxed_frame_as_in_colab(browser, bundle):
    page = browser.new_page()
    page.set_content('<iframe sandbox="allow-scripts" width="600" height="300"></iframe>')
    source = f"<html><body>{bundle['data']['text/html']}</body></html>"
    page.eval_on_selector("iframe", "(frame, source) => { frame.srcdoc = source }", source)
    page.frame_locator("iframe").locator("input").wait_for()
    works(page.frame_locator("iframe"))
    page.close()


@browser_only
def test_without_scripts_the_first_frame_stands_alone(browser, bundle):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.set_content(bundle["data"]["text/html"])
    assert page.locator("img").is_visible()
    assert page.locator("img").get_attribute("alt") == f"{NAMES[0]}: {ALT}"
    assert not page.locator("input").is_visible(), "a slider that cannot move is not shown"
    context.close()


@pytest.fixture
def lab(tmp_path, bundle) -> Iterator[str]:
    """JupyterLab with two notebooks that hold the slider's output; one of them is trusted. Its address."""
    output = new_output("display_data", data=bundle["data"], metadata=bundle["metadata"])
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}  # else JupyterLab asks
    for name in ("trusted", "untrusted"):  # two texts, as trust is in what a notebook holds
        cell = new_code_cell(f"{name}()", outputs=[output], execution_count=1)
        notebook = new_notebook(cells=[cell], metadata={"kernelspec": kernel})
        nbformat.write(notebook, tmp_path / f"{name}.ipynb")
    folders = {f"JUPYTER_{name}_DIR": str(tmp_path / name) for name in ("CONFIG", "DATA", "RUNTIME")}
    environment = {**os.environ, **folders, "HOME": str(tmp_path)}
    jupyter = [sys.executable, "-m"]
    trust = [*jupyter, "jupyter", "trust", str(tmp_path / "trusted.ipynb")]
    subprocess.run(trust, env=environment, check=True, capture_output=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = {
        "ServerApp.root_dir": tmp_path,
        "ServerApp.port": port,
        "ServerApp.open_browser": False,
        "ServerApp.allow_root": True,
        "IdentityProvider.token": "",
    }
    command = [*jupyter, "jupyterlab", *(f"--{name}={value}" for name, value in options.items())]
    address = f"http://127.0.0.1:{port}/lab"
    with Path(tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(address, timeout=5).close()
                break
            except OSError:
                assert server.poll() is None, (tmp_path / "log").read_text()
                assert time.monotonic() < deadline, (tmp_path / "log").read_text()
                time.sleep(0.3)
        yield address
    finally:
        server.kill()
        server.wait()


@browser_only
def test_in_jupyterlab(browser, lab):
    page = browser.new_page()
    page.goto(f"{lab}/tree/trusted.ipynb")
    page.locator(".jp-OutputArea-output input[type=range]").wait_for(timeout=60_000)
    page.get_by_text("Python 3").first.wait_for(timeout=60_000)
    works(page.locator(".jp-OutputArea-output").first)
    page.goto(f"{lab}/tree/untrusted.ipynb?reset")
    picture = page.locator(".jp-OutputArea-output img")
    picture.wait_for(timeout=60_000)
    assert picture.get_attribute("alt") == f"{NAMES[0]}: {ALT}"
    assert not page.locator(".jp-OutputArea-output input").is_visible()
    page.close()
