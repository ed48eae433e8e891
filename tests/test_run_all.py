"""The shell script: what it says, and what it does before any Python of ours runs."""

import os
import shutil
import subprocess
import sys

import pytest

from bgetune.paths import ROOT


def run_all(folder, *arguments, **environment):
    kept = {key: value for key, value in os.environ.items() if key not in ("VIRTUAL_ENV", "CONDA_PREFIX")}
    return subprocess.run(
        [folder / "run_all.sh", *arguments], env=kept | environment, capture_output=True, text=True, timeout=120
    )


@pytest.fixture
def clone(tmp_path):
    """A folder that holds what the script needs, and no environment."""
    for name in ("run_all.sh", "requirements.lock"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


@pytest.mark.parametrize("flag", ["--help", "-h", "help"])
def test_help_installs_nothing(clone, flag):
    result = run_all(clone, flag)
    assert result.returncode == 0
    for word in ("--from", "--force", "--set", "new", "test", "lab"):
        assert word in result.stdout
    assert not (clone / ".venv").exists()


def test_without_python_3_11_it_says_so(clone):
    old = clone / "python2"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    result = run_all(clone, PYTHON=str(old))
    assert result.returncode == 2
    assert "no Python 3.11 or newer found" in result.stderr
    assert not (clone / ".venv").exists()


def test_python_without_venv_is_named(clone):
    bare = clone / "python3"
    bare.write_text('#!/bin/sh\n[ "$1" = -m ] && exit 1\nexit 0\n')
    bare.chmod(0o755)
    result = run_all(clone, PYTHON=str(bare))
    assert result.returncode == 2
    assert "python3-venv" in result.stderr
    assert not (clone / ".venv").exists()


def test_complete_environment_is_used_as_it_is():
    """The environment of this test holds everything, so the script starts at once and installs nothing."""
    result = run_all(ROOT, "no_such_profile.yaml", VIRTUAL_ENV=sys.prefix, PYTHON="/nonexistent")
    assert result.returncode == 2
    assert "no_such_profile.yaml: no such file" in result.stderr
    assert "Setting up" not in result.stderr
