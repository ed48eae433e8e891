"""A PostgreSQL server for the tests of databases."""

import os
import pwd
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

POSTGRES = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))


@pytest.fixture(scope="module")
def postgres(tmp_path_factory):
    """A PostgreSQL server of our own; its URL, whose password is in the environment variable PGTEST_PASSWORD."""
    if not POSTGRES:
        pytest.skip("needs PostgreSQL's server programs (Debian: postgresql)")
    programs = POSTGRES[-1].parent
    folder = Path(tmp_path_factory.mktemp("postgres"))
    user = {}
    if os.getuid() == 0:  # initdb refuses to run as root
        nobody = pwd.getpwnam("nobody")
        user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        folder = Path("/tmp") / f"postgres-of-bgetune-{os.getpid()}"  # not among the private folders, which are swept
        folder.mkdir()
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    secret = "s3cret/pass@word"

    def run(*command, **options):
        done = subprocess.run(command, **user, cwd=folder, capture_output=True, text=True, **options)
        assert done.returncode == 0, done.stdout + done.stderr

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    try:
        password = folder / "password"
        password.write_text(secret)
        password.chmod(0o644)
        options = ["--username=tester", f"--pwfile={password}", "--auth=scram-sha-256", "--encoding=UTF8", "--no-sync"]
        run(programs / "initdb", "-D", folder / "data", *options, env={"LC_ALL": "C.UTF-8", "PATH": os.environ["PATH"]})
        settings = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync=off"
        run(programs / "pg_ctl", "-D", folder / "data", "-w", "-l", folder / "log", "-o", settings, "start")
        try:
            os.environ["PGTEST_PASSWORD"] = secret
            yield f"postgres://tester:${{PGTEST_PASSWORD}}@127.0.0.1:{port}/postgres"
        finally:
            os.environ.pop("PGTEST_PASSWORD", None)
            run(programs / "pg_ctl", "-D", folder / "data", "-w", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
