"""A repository with one stage, for tests of what goes on around a notebook."""

import nbformat

from bgetune.config import generate
from bgetune.config.stages import STAGES

STAGE = "01_positives"
CELLS = (
    "from bgetune import runs\nfrom bgetune.runs import stage as stages\nstages.code_hash = lambda stage: 'code'",
    f'stage = runs.start("{STAGE}", globals())',
    'with stage.writing("made.txt") as file:\n    n = file.write_text(f"seed {stage.params.seed}")',
    'print("<b>untrusted</b>")\nstage.finish(seen=1)',
)


def make_notebook(root, *sources):
    """Store a notebook of these code cells after its parameters cell, as released."""
    cell = nbformat.v4.new_code_cell(generate.parameters_cell(STAGE), metadata={"tags": ["parameters"]})
    notebook = nbformat.v4.new_notebook(cells=[cell, *map(nbformat.v4.new_code_cell, sources or CELLS)])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    (root / "notebooks").mkdir(exist_ok=True)
    nbformat.write(notebook, root / "notebooks" / f"{STAGE}.ipynb")
    (root / generate.CHECKSUMS).write_text(f"{generate.checksum(notebook)}  {STAGE}\n")


def make_repository(root, monkeypatch):
    """A repository at this root, in which one notebook writes one artifact, and a profile `one.yaml`."""
    from bgetune import lab, paths, pipeline
    from bgetune.runs import copies, execute, manifest, stage

    for module in (pipeline, manifest, lab):
        monkeypatch.setattr(module, "STAGES", {STAGE: STAGES[STAGE]})
    for module in (copies, execute, lab, manifest, stage, paths):
        monkeypatch.setattr(module, "ROOT", root)
    monkeypatch.setattr(pipeline, "check", lambda profiles: [])
    monkeypatch.setattr(manifest, "code_hash", lambda stage: "code")
    make_notebook(root)
    (root / "one.yaml").write_text("model: any\nseed: 5\n")
    return root
