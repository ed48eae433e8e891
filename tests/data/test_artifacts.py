import pytest

from bgetune import locale, paths
from bgetune.config import generate
from bgetune.data import artifacts, tables


@pytest.mark.parametrize("language", generate.ARTIFACTS)
def test_the_reference_is_up_to_date(language):
    page = paths.ROOT / generate.ARTIFACTS[language]
    assert page.read_text("utf-8") == artifacts.reference(language), "python -m bgetune.config.generate"


def test_every_table_and_file_is_in_it():
    names = {name for names in artifacts.WRITTEN.values() for name in names}
    assert names == {*tables.SCHEMAS, *artifacts.FILES}
    assert set(artifacts.FIELDS) <= set(artifacts.FILES)
    page = artifacts.reference("en")
    for name, schema in tables.SCHEMAS.items():
        assert f"\n## {name}\n" in page
        for column in schema.columns:
            assert f"| `{column}` |" in page
    for link in ("(#texts)", "(#trainjsonl)", "(#training_log)", "(#figurespng)"):
        assert link in page


def test_it_speaks_the_language_and_leaves_that_of_the_process():
    locale.use("en")
    try:
        assert "文本" in artifacts.reference("zh")
        assert locale.language() == "en"
    finally:
        locale.use(None)
