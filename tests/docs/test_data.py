"""docs/data.md: every example is read as it is printed."""

import re

import pytest
import yaml

from bgetune import paths
from bgetune.config.sources import Sources
from bgetune.data import opening
from bgetune.data.sources import read_clicks
from bgetune.positives import pairs

PAGES = {name: (paths.ROOT / "docs" / name).read_text("utf-8") for name in ("data.md", "data.zh-CN.md")}
FENCE = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.DOTALL | re.MULTILINE)
EXAMPLES = [FENCE.findall(part) for part in PAGES["data.md"].split("\n## ")[1:]]


@pytest.mark.parametrize("blocks", EXAMPLES, ids=lambda blocks: blocks[0][1])
def test_an_example_is_read_as_printed(blocks, tmp_path):
    *files, (language, _, profile) = blocks
    assert language == "yaml"
    for _, name, content in files:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content, "utf-8")
    given = Sources.model_validate(yaml.safe_load(profile.replace("data/", f"{tmp_path}/data/")))
    for source in given.clicks:
        table, dropped = read_clicks(source)
        printed = content.splitlines()[1:] if source.path else opening.all_rows(source).index
        assert table.count().execute() == len(printed) > 0
        assert dropped.empty
    if not given.clicks:
        collected = pairs.collect(given)
        assert len(collected.texts) > 1
        assert set(collected.dropped["reason"]) <= {"grade unknown"}


def test_every_kind_has_an_example_and_both_languages_have_the_same():
    kinds = {kind for *_, (_, _, profile) in EXAMPLES for kind in yaml.safe_load(profile)}
    assert kinds == set(Sources.model_fields)
    assert FENCE.findall(PAGES["data.md"]) == FENCE.findall(PAGES["data.zh-CN.md"])
    for name in PAGES:
        assert f"docs/{name}" in (paths.ROOT / name.replace("data", "README")).read_text("utf-8")
