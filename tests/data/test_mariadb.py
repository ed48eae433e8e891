"""A real MariaDB server, started by the test in a folder of its own."""

import os
import pwd
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest

from bgetune.config.sources import ClickSource
from bgetune.data.databases import label
from bgetune.data.sources import read_clicks
from bgetune.errors import InputError

SECRET = "s3cret/pass@word"


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    """The port of a MariaDB server of our own, whose user tester has the password of the variable MYTEST_PASSWORD."""
    server = shutil.which("mariadbd", path=f"{os.environ['PATH']}:/usr/sbin")
    install = shutil.which("mariadb-install-db")
    if server is None or install is None:
        pytest.skip("needs MariaDB's server programs (Debian: mariadb-server)")
    folder, user = Path(tmp_path_factory.mktemp("mariadb")), []
    if os.getuid() == 0:  # the server refuses to run as root
        nobody = pwd.getpwnam("nobody")
        folder = Path("/tmp") / f"mariadb-of-bgetune-{os.getpid()}"  # not among the private folders, which are swept
        folder.mkdir()
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        user = ["--user=nobody"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    data = [f"--datadir={folder / 'data'}"]
    try:
        made = subprocess.run(
            [install, "--no-defaults", *user, *data, "--auth-root-authentication-method=normal", "--skip-test-db"],
            capture_output=True,
            text=True,
        )
        assert made.returncode == 0, made.stdout + made.stderr
        (folder / "init.sql").write_text(
            "CREATE DATABASE logs CHARACTER SET utf8mb4;\n"
            f"CREATE USER tester@'127.0.0.1' IDENTIFIED BY '{SECRET}';\n"
            "GRANT ALL ON logs.* TO tester@'127.0.0.1';\n"
        )
        (folder / "init.sql").chmod(0o644)
        settings = [
            f"--port={port}",
            "--bind-address=127.0.0.1",
            f"--socket={folder / 'socket'}",
            "--skip-name-resolve",
        ]
        files = [f"--init-file={folder / 'init.sql'}", f"--pid-file={folder / 'pid'}"]
        log = (folder / "log").open("w")
        process = subprocess.Popen([server, "--no-defaults", *user, *data, *settings, *files], stdout=log, stderr=log)
        try:
            _wait(port, process, folder / "log")
            os.environ["MYTEST_PASSWORD"] = SECRET
            yield port
        finally:
            os.environ.pop("MYTEST_PASSWORD", None)
            process.terminate()
            process.wait(60)
            log.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wait(port, process, log):
    pymysql = pytest.importorskip("pymysql")
    for _ in range(300):
        assert process.poll() is None, log.read_text()
        try:
            pymysql.connect(host="127.0.0.1", port=port, user="tester", password=SECRET, database="logs").close()
            return
        except pymysql.err.OperationalError:
            time.sleep(0.1)
    raise AssertionError(log.read_text())


def test_mariadb(port, monkeypatch):
    import pymysql

    with pymysql.connect(host="127.0.0.1", port=port, user="tester", password=SECRET, database="logs") as connection:
        cursor = connection.cursor()
        cursor.execute("CREATE TABLE clicks (`when` DATETIME, who BIGINT, `query` TEXT, url TEXT, pos TINYINT)")
        cursor.execute(
            "INSERT INTO clicks VALUES ('2026-03-02 08:31:39', 7, '支付密码', NULL, NULL), "
            "('2026-03-02 08:31:50', 7, '忘记支付密码😀', 'a', 2), (now(), 8, NULL, 'b', 1)"
        )
        cursor.execute("CREATE VIEW clicked AS SELECT * FROM clicks WHERE url IS NOT NULL")
        connection.commit()
    columns = {"time_column": "when", "user_column": "who", "rank_column": "pos", "timezone": "Asia/Shanghai"}
    for scheme in ("mysql", "mariadb"):
        url = f"{scheme}://tester:${{MYTEST_PASSWORD}}@127.0.0.1:{port}/logs"
        source = ClickSource(url=url, table="clicks", **columns)
        table, dropped = read_clicks(source)
        found = table.order_by("time").to_pandas()
        assert found["query"].tolist() == ["支付密码", "忘记支付密码😀"]
        assert found["time"].astype(str).tolist() == ["2026-03-02 00:31:39", "2026-03-02 00:31:50"]
        assert (found["user_id"].tolist(), found["rank"].tolist()[1]) == (["7", "7"], 2)
        assert dropped[["reason", "rows"]].to_numpy().tolist() == [["no query", 1]]
        assert label(source) == f"{scheme}://127.0.0.1:{port}/logs clicks"
    view = source.model_copy(update={"table": "clicked"})
    assert read_clicks(view)[0].count().execute() == 1
    commented = "SELECT * -- all of them\nFROM clicks /* of one */ WHERE who = 7 AND `query` LIKE '忘记%'"
    query = ClickSource(url=url, query=commented, **columns)
    assert read_clicks(query)[0].url.execute().tolist() == ["a"]
    with pytest.raises(InputError, match="not DELETE"):
        read_clicks(query.model_copy(update={"query": "DELETE FROM clicks"}))
    with pytest.raises(InputError, match="no column nobody; it has when, who, query, url, pos"):
        read_clicks(source.model_copy(update={"user_column": "nobody"}))
    monkeypatch.setenv("MYTEST_PASSWORD", "another/secret")
    with pytest.raises(InputError, match="Access denied") as error:
        read_clicks(source)
    assert "another" not in str(error.value)
