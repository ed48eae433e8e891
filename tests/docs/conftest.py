from scoring.conftest import scorer, world  # noqa: F401 (fixtures)
