import pytest

from bgetune import paths
from bgetune.config import generate
from bgetune.data import artifacts, tables
from bgetune.locale import using


@pytest.mark.parametrize("language", generate.ARTIFACTS)
def test_the_reference_is_up_to_date(language):
    page = paths.ROOT / generate.ARTIFACTS[language]
    with using(language):
        assert page.read_text("utf-8") == artifacts.reference(), "python -m bgetune.config.generate"


def test_every_table_and_file_is_in_it():
    names = {name for names in artifacts.WRITTEN.values() for name in names}
    assert names == {*tables.SCHEMAS, *artifacts.FILES}
    assert set(artifacts.FIELDS) <= set(artifacts.FILES)
    with using("en"):
        page = artifacts.reference()
    for name, schema in tables.SCHEMAS.items():
        assert f"\n## {name}\n" in page
        for column in schema.columns:
            assert f"| `{column}` |" in page
    for link in ("(#texts)", "(#trainjsonl)", "(#training_log)", "(#figurespng)"):
        assert link in page
