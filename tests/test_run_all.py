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


PYTHON_STUB = """#!/bin/sh
case "$*" in
    "-m venv .venv") mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
    "-m pip config list") echo "global.index-url='https://mirror.example/simple'"
        echo ":env:.find-links='/one /two'"; echo "global.find-links='/overridden'" ;;
    "-m pip install"*) echo "pip $*" >> calls; case "$*" in *editable*) touch installed ;; esac ;;
    -c*) exec {python} "$@" ;;
    -) cat > /dev/null; test -f installed ;;
    *) echo "$*" >> calls ;;
esac
"""
UV_STUB = """#!/bin/sh
echo "uv $*" >> calls
case "$*" in *editable*) touch installed ;; esac
exit {status}
"""


@pytest.fixture
def bare(clone):
    """A clone with a Python that records what it is asked to install."""
    stub = clone / "bin/python3"
    stub.parent.mkdir()
    stub.write_text(PYTHON_STUB.format(python=sys.executable))
    stub.chmod(0o755)
    return clone


def put_uv(folder, status):
    (folder / "bin/uv").write_text(UV_STUB.format(status=status))
    (folder / "bin/uv").chmod(0o755)


def set_up(folder, **environment):
    """What a call says, and what it had installed."""
    (folder / "calls").unlink(missing_ok=True)
    path = os.pathsep.join([str(folder / "bin"), "/usr/bin", "/bin"])
    result = run_all(folder, "demo", PATH=path, PYTHON=str(folder / "bin/python3"), **environment)
    assert result.returncode == 0, result.stderr
    calls = (folder / "calls").read_text().splitlines()
    assert calls.pop() == "-m bgetune.pipeline demo"
    return result.stderr, calls


def without_uv():
    if shutil.which("uv", path="/usr/bin:/bin"):
        pytest.skip("the system has a uv of its own")


def test_installing_says_its_steps_and_a_second_call_installs_nothing(bare):
    without_uv()
    said, calls = set_up(bare, LC_ALL="C.UTF-8")
    steps = [line for line in said.splitlines() if line.startswith("[")]
    assert [step[:5] for step in steps] == ["[1/4]", "[2/4]", "[3/4]", "[4/4]"]
    assert "torch==" in steps[1]
    assert " packages of requirements.lock" in steps[2]
    assert [call.split()[-1].partition("==")[0] for call in calls] == ["torch", "requirements.lock", "."]
    assert all(call.startswith("pip ") for call in calls)
    assert set_up(bare) == ("", [])


def test_installing_in_chinese(bare):
    said, _calls = set_up(bare, LC_ALL="zh_CN.UTF-8")
    assert "[1/4] 创建虚拟环境 .venv" in said


def test_uv_installs_the_same_from_where_pip_would_take_it(bare):
    put_uv(bare, status=0)
    _said, calls = set_up(bare)
    assert all(call.startswith("uv pip install --python .venv/bin/python") for call in calls)
    assert [call.split()[-1].partition("==")[0] for call in calls] == ["torch", "requirements.lock", "."]
    assert all(
        "--index-url=https://mirror.example/simple --find-links=/one --find-links=/two" in call for call in calls
    )
    assert "/overridden" not in " ".join(calls)


def test_where_uv_fails_pip_installs(bare):
    put_uv(bare, status=1)
    said, calls = set_up(bare, LC_ALL="C.UTF-8")
    assert [call.split()[0] for call in calls] == ["uv", "pip"] * 3
    assert "uv could not install this; pip tries" in said
