#!/usr/bin/env bash
# One command: sets up what is missing, then runs. See usage() or README.md.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

usage() {
    cat <<'TEXT'
./run_all.sh [PROFILE ...] [--check] [--until NN] [--from NN] [--force] [--set SECTION.PARAMETER=VALUE]
    Run the five notebooks for each profile (a file, or NAME for params/NAME.yaml; default: demo) and write
    runs/NAME/index.html. What is unchanged since the last run is not run again.
      --check                    check everything, say what would run, and run nothing
      --until 01                 stop after notebook 01
      --from 03                  run notebook 03 and those after it in any case
      --force                    run all notebooks in any case
      --set 04_train.epochs=2    replace a value of the profile; may be repeated
    Several profiles, or several values, are run one after the other and compared on one page (it says where):
      ./run_all.sh params/demo.yaml params/demo_without_augmentation.yaml
      ./run_all.sh params/study_temperature.yaml
      ./run_all.sh --set '04_train.scale=[10, 20, 50]'
./run_all.sh new NAME FILE...
    Look at files, folders or databases (sqlite:///..., postgres://...) of yours and write params/NAME.yaml for them:
    what each is, which column is which, and `# ?` where it cannot be told. Nothing is sent anywhere. Then:
      ./run_all.sh NAME --until 01
./run_all.sh test [PYTEST ARGUMENTS]
    Lint (ruff), types (mypy) and the whole test suite, on all cores.
./run_all.sh lab [PROFILE] [JUPYTERLAB ARGUMENTS]
    JupyterLab with working copies of the notebooks (work/NAME), in the same environment. They start from what
    runs/NAME holds and write to runs/NAME-lab; the stored notebooks and runs/NAME stay as they are.
./run_all.sh --help
    This text.

The first call makes .venv and installs requirements.lock into it (a few minutes; with uv, where it is installed, about
one), and says how far it is. An active virtual or conda
environment that already holds the locked packages (one made from environment.yml) is used instead.
Needs Python 3.11 or newer and bash. PYTHON=/path/to/python chooses the Python that .venv is made with.
TEXT
}

# Exit status 0 when a Python has every package of the lock at its locked version, and this repository.
complete() {
    "$1" - <<'PYTHON' 2>/dev/null
import importlib.metadata, json, pathlib, re, sys

lines = pathlib.Path("requirements.lock").read_text(encoding="utf-8").splitlines()
for line in lines:
    match = re.match(r"([A-Za-z0-9._-]+)==([^\s;]+)", line)
    if match and importlib.metadata.version(match[1]).split("+")[0] != match[2]:
        sys.exit(1)
origin = json.loads(importlib.metadata.distribution("bgetune").read_text("direct_url.json") or "{}")
sys.exit(origin.get("url") != pathlib.Path.cwd().as_uri())
PYTHON
}

find_python() {
    local candidate
    for candidate in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11 python}; do
        if command -v "$candidate" >/dev/null &&
            "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    echo "error: no Python 3.11 or newer found; install one, or set PYTHON=/path/to/python" >&2
    exit 2
}

# What pip's settings say (a mirror, a folder of wheels, constraints) as options of uv, which reads none of them, a line each.
pip_settings() {
    "$python" -m pip config list 2>/dev/null | "$python" -c '
import ast, sys

OPTIONS = {"index-url": "index-url", "extra-index-url": "extra-index-url", "find-links": "find-links",
           "constraint": "constraint", "trusted-host": "allow-insecure-host"}
settings = {}
for line in sorted(sys.stdin, reverse=True):  # :env: last, as it is what counts
    name, _, value = line.strip().partition("=")
    settings[name.rpartition(".")[2]] = ast.literal_eval(value)
for name, option in OPTIONS.items():
    for value in settings.get(name, "").split():
        print(f"--{option}={value}")'
}

# Installs into the environment of $python: with uv where it is at hand, which is faster, else with pip; both take what
# requirements.lock says, from where pip takes it. Their own progress shows where a terminal watches.
install() {
    local quiet=() settings=() line
    if command -v uv >/dev/null; then
        [[ -t 2 ]] || quiet=(--no-progress)
        while IFS= read -r line; do settings+=("$line"); done < <(pip_settings)
        uv pip install --python "$python" --index-strategy unsafe-best-match ${settings[@]+"${settings[@]}"} ${quiet[@]+"${quiet[@]}"} \
            "$@" && return
        say "uv could not install this; pip tries" "uv 安装失败,改用 pip"
    fi
    quiet=()
    [[ -t 2 ]] || quiet=(--progress-bar off --quiet)
    "$python" -m pip install --disable-pip-version-check ${quiet[@]+"${quiet[@]}"} "$@"
}

# Sets $python to an environment's Python that holds everything, making or completing .venv when needed.
set_up() {
    local active="${VIRTUAL_ENV:-${CONDA_PREFIX:-}}" torch count begun=$SECONDS
    if [[ -n "$active" && -x "$active/bin/python" ]] && complete "$active/bin/python"; then
        python="$active/bin/python"
        return
    fi
    python=.venv/bin/python
    if [[ -x "$python" ]] && complete "$python"; then
        return
    fi
    torch=$(grep -E '^torch==' requirements.lock)
    count=$(grep -cE '^[A-Za-z0-9._-]+==' requirements.lock)
    say "Setting up .venv (once)" "准备 .venv(仅一次)"
    say "[1/4] a virtual environment in .venv" "[1/4] 创建虚拟环境 .venv"
    if [[ ! -x "$python" ]]; then
        local base
        base=$(find_python)
        if ! "$base" -m venv .venv; then
            rm -rf .venv
            echo "error: $base cannot make virtual environments (on Debian: apt install python3-venv)" >&2
            exit 2
        fi
    fi
    # torch first and by itself: the installer then takes a CPU build where one is at hand, and the rest accepts it
    say "[2/4] $torch, the largest package (several hundred MB)" "[2/4] $torch,最大的软件包(数百 MB)"
    install "$torch" >&2
    say "[3/4] $count packages of requirements.lock" "[3/4] requirements.lock 中的 $count 个软件包"
    install -r requirements.lock >&2
    say "[4/4] bgetune itself" "[4/4] bgetune 本身"
    install --no-deps --editable . >&2
    say "Set up in $((SECONDS - begun)) s" "准备完成,用时 $((SECONDS - begun)) 秒"
}

# A sentence in English or Chinese, as the system's locale says: catalogues need what is only installed here.
say() {
    case "${LC_ALL:-${LC_MESSAGES:-${LANG:-}}}" in
        zh*) echo "$2" >&2 ;;
        *) echo "$1" >&2 ;;
    esac
}

case "${1:-}" in
    -h | --help | help)
        usage
        ;;
    test)
        shift
        set_up
        "$python" -m ruff check .
        "$python" -m ruff format --check .
        "$python" -m mypy
        "$python" -m pytest --numprocesses auto --dist loadfile "$@"
        ;;
    new)
        shift
        set_up
        # relative paths are the caller's
        exec "$python" -m bgetune.new --folder "${OLDPWD:-$PWD}" "$@"
        ;;
    lab)
        shift
        set_up
        exec "$python" -m bgetune.lab "$@"
        ;;
    *)
        set_up
        exec "$python" -m bgetune.pipeline "$@"
        ;;
esac
