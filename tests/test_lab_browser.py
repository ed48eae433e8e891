"""All five notebooks explored in JupyterLab by a browser: nothing that git knows and no batch run changes by it."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request

import pandas as pd
import pytest

from bgetune.config.stages import STAGES
from bgetune.negatives import review
from bgetune.paths import ROOT, cache_root

pytestmark = pytest.mark.slow

TOKEN = "explored"
SMALLER = {"demo://standard/": "demo://small/", "name: demo": "name: tried", "max_texts: 200": "max_texts: 20"}
"""What the profile of the demo is changed to."""
RUN_ALL = """
(async () => {
    const app = window.jupyterapp;
    await app.restored;
    const widget = await app.commands.execute('docmanager:open', {path: PATH, factory: 'Notebook'});
    await widget.context.ready;
    await widget.sessionContext.ready;
    await widget.sessionContext.session.kernel.info;
    app.shell.activateById(widget.id);
    await app.commands.execute('notebook:run-all-cells');
    await widget.context.save();
    return 'done';
})()
"""
KEYS_A_SECOND = 20


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A fresh clone with a batch run of the small demo world, and the environment that it ran in."""
    if not (ROOT / ".git").exists():
        pytest.skip("needs a clone")
    folder = tmp_path_factory.mktemp("lab") / "clone"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    text = (folder / "params/demo.yaml").read_text("utf-8")
    for one, other in SMALLER.items():
        assert one in text
        text = text.replace(one, other)
    (folder.parent / "tried.yaml").write_text(text, "utf-8")
    environment = os.environ | {"PYTHONPATH": str(folder / "src"), "BGETUNE_CACHE": str(cache_root())}
    run = [sys.executable, "-m", "bgetune.pipeline", str(folder.parent / "tried.yaml")]
    subprocess.run(run, check=True, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return folder, environment


@pytest.fixture(scope="module")
def lab(clone):
    """The address of JupyterLab in the clone."""
    folder, environment = clone
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = [f"--port={port}", "--ServerApp.port_retries=0", "--no-browser", "--allow-root"]
    options += [f"--IdentityProvider.token={TOKEN}", "--LabApp.expose_app_in_browser=True", "--LabApp.news_url="]
    server = subprocess.Popen(
        [sys.executable, "-m", "bgetune.lab", str(folder.parent / "tried.yaml"), *options],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    address = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 120
    while True:
        try:
            urllib.request.urlopen(f"{address}/api?token={TOKEN}", timeout=5).close()
            break
        except OSError:
            assert server.poll() is None, "JupyterLab has ended"
            assert time.monotonic() < deadline, "JupyterLab does not answer"
            time.sleep(0.5)
    yield address
    server.terminate()
    server.wait(30)


def contents(folder):
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def status(folder):
    command = ["git", "-C", str(folder), "status", "--porcelain"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_exploring_changes_nothing_and_the_form_loses_no_key(clone, lab, browser):
    folder, _ = clone
    before = contents(folder / "runs/tried")
    browser.socket.settimeout(600)
    browser.visit(f"{lab}/lab?token={TOKEN}&reset")
    browser.wait("!!window.jupyterapp")
    for stage in STAGES:
        path = f"work/tried/{stage}.ipynb"
        assert browser.evaluate(RUN_ALL.replace("PATH", json.dumps(path))) == "done"
        notebook = json.loads((folder / path).read_text("utf-8"))
        outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", ())]
        assert [output for output in outputs if output["output_type"] == "error"] == [], stage
        assert any("as it was last saved" in str(output.get("data")) for output in outputs), stage
        assert (folder / f"runs/tried-lab/{stage}.html").is_file()
        if stage == "03_hard_negatives":
            judge(browser, folder / "runs/tried-lab/03_hard_negatives/review.csv")
    assert contents(folder / "runs/tried") == before
    assert status(folder) == ""


def judge(browser, file):
    """Type verdicts as fast as a person can hold keys down."""
    waiting = int(review.read_review(file)["verdict"].eq("").sum())
    typed = "".join("sd"[number % 3 == 0] for number in range(min(waiting, 100)))
    assert len(typed) >= 20
    browser.wait("!!document.querySelector('.jp-OutputArea input[type=text]')")
    browser.evaluate("document.querySelector('.jp-OutputArea input[type=text]').focus()")
    for key in typed:
        browser.send("Input.dispatchKeyEvent", type="keyDown", text=key, key=key)
        browser.send("Input.dispatchKeyEvent", type="keyUp", key=key)
        time.sleep(1 / KEYS_A_SECOND)
    deadline = time.monotonic() + 30
    while review.read_review(file)["verdict"].ne("").sum() < len(typed) and time.monotonic() < deadline:
        time.sleep(0.2)
    verdicts = review.read_review(file)["verdict"]
    wanted = [{"s": "same", "d": "different"}[key] for key in typed]
    pd.testing.assert_series_equal(verdicts.head(len(typed)), pd.Series(wanted, name="verdict"), check_dtype=False)
