"""Property: what any program writes as CSV is read as pandas reads it, or refused."""

import csv_files
from hypothesis import HealthCheck, given, settings


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(written=csv_files.files())
def test_files_of_every_dialect_are_read_as_by_pandas(tmp_path_factory, written):
    csv_files.compare(written, tmp_path_factory.mktemp("csv"))
