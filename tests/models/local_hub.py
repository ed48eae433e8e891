"""A model hub on this machine: folders over HTTP as `HF_ENDPOINT` expects them, with faults on demand."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

BGE, RERANKER, MARIAN = "BAAI/bge-small-zh-v1.5", "BAAI/bge-reranker-v2-m3", "Helsinki-NLP/opus-mt-zh-en"


class LocalHub(ThreadingHTTPServer):
    """Serves FOLDER/OWNER/NAME as the model OWNER/NAME; FOLDER/OWNER/NAME@pr as what a pull request offers.

    Attributes:
        requests: ``METHOD path`` of each, with the range that was asked for.
        cut: names of files whose first answer breaks off half-way.
        status: answered to everything, where it is not None.
    """

    daemon_threads = True

    def __init__(self, folder: Path):
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder = folder
        self.requests: list[str] = []
        self.cut: set[str] = set()
        self.status: int | None = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @contextmanager
    def running(self):
        thread = threading.Thread(target=self.serve_forever, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.shutdown()
            self.server_close()


class Handler(BaseHTTPRequestHandler):
    server: LocalHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        asked = self.headers.get("Range")
        self.server.requests.append(f"{self.command} {self.path}" + (f" {asked}" if asked else ""))
        if self.server.status is not None:
            return self._send(self.server.status, b'{"error": "not now"}')
        path = unquote(self.path.partition("?")[0])
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path):
            return self._info(found.group(1), found.group(2) or "main")
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/([^/]+)", path):
            return self._tree(*found.groups())
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commits/(.+)", path):
            return self._commits(*found.groups())
        if found := re.match(r"/api/models/([^/]+/[^/]+)/discussions", self.path):
            return self._discussions(found.group(1))
        if found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            return self._file(*found.groups())
        if found := re.fullmatch(r"/api/v1/models/([^/]+/[^/]+)/repo(/files)?", path):
            return self._modelscope(found.group(1), listing=found.group(2) is not None)
        return self._missing("EntryNotFound")

    def _modelscope(self, name: str, listing: bool):
        """ModelScope: the files of a model with their checksums, or one of them. A branch is asked for, no commit."""
        folder, asked = self._folder(name, "main"), parse_qs(urlsplit(self.path).query)
        if folder is None or asked["Revision"] != ["master"]:
            return self._missing("RepoNotFound")
        if not listing:
            return self._content(folder / asked["FilePath"][0], "a-branch")
        listed = [
            {"Path": file, "Name": Path(file).name, "Type": "blob", "Size": (folder / file).stat().st_size}
            | {"Sha256": hashlib.sha256((folder / file).read_bytes()).hexdigest(), "Revision": commit(folder)}
            for file in files_below(folder)
        ]
        return self._json({"Code": 200, "Success": True, "Data": {"Files": listed}})

    def _info(self, name: str, revision: str):
        folder = self._folder(name, revision)
        if folder is None:
            return self._missing("RepoNotFound")
        listed = [{"rfilename": file} for file in files_below(folder)]
        return self._json({"id": name, "modelId": name, "sha": commit(folder), "siblings": listed, "private": False})

    def _tree(self, name: str, revision: str):
        folder = next((found for found in self._folders(name) if commit(found) == revision), None)
        if folder is None:
            return self._missing("RevisionNotFound")
        return self._json(
            [
                {"type": "file", "path": file, "size": (folder / file).stat().st_size, "oid": "0" * 40}
                for file in files_below(folder)
            ]
        )

    def _commits(self, name: str, revision: str):
        """The newest first: that of a pull request lies on main's."""
        folders = [folder for one in (revision, "main") if (folder := self._folder(name, one))]
        dated = {"title": "a commit", "message": "", "authors": [], "date": "2024-01-01T00:00:00.000Z"}
        return self._json([{"id": one} | dated for one in dict.fromkeys(map(commit, folders))])

    def _discussions(self, name: str):
        offer = {"title": "Adding `safetensors` variant of this model", "num": 4, "status": "open"}
        offer |= {"author": {"name": "SFconvertbot"}, "isPullRequest": True, "createdAt": "2024-01-01T00:00:00.000Z"}
        offer |= {"repo": {"name": name, "type": "model"}}
        there = [offer] if self._folder(name, "refs/pr/4") else []
        return self._json({"discussions": there, "count": len(there), "start": 0, "numClosedDiscussions": 0})

    def _file(self, name: str, revision: str, path: str):
        file = next(
            (found / path for found in self._folders(name) if commit(found) == revision and (found / path).is_file()),
            None,
        )
        return self._missing("EntryNotFound") if file is None else self._content(file, revision)

    def _content(self, file: Path, revision: str):
        content = file.read_bytes()
        headers = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": revision}
        status, first = 200, 0
        if self.command == "GET" and (asked := re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))):
            status, first = 206, int(asked.group(1))
            headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
        return self._send(status, content[first:], headers, cut=self.command == "GET" and self._cut_now(file.name))

    def _cut_now(self, name: str) -> bool:
        cut = name in self.server.cut
        self.server.cut.discard(name)
        return cut

    def _folders(self, name: str) -> list[Path]:
        return [folder for revision in ("main", "refs/pr/4") if (folder := self._folder(name, revision))]

    def _folder(self, name: str, revision: str) -> Path | None:
        folder = self.server.folder / (name if not revision.startswith("refs/pr/") else f"{name}@pr")
        return folder if folder.is_dir() else None

    def _missing(self, code: str):
        return self._send(404, b'{"error": "not found"}', {"X-Error-Code": code})

    def _json(self, answer):
        return self._send(200, json.dumps(answer).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, content: bytes, headers: dict[str, str] | None = None, cut: bool = False):
        self.send_response(status)
        for key, value in ({"Content-Length": str(len(content))} | (headers or {})).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content[: len(content) // 2] if cut else content)
        if cut:
            self.wfile.flush()
            self.close_connection = True


def files_below(folder: Path) -> list[str]:
    return sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())


def commit(folder: Path) -> str:
    """What stands for a commit: 40 hexadecimal digits of the folder's name."""
    return hashlib.sha1(folder.name.encode()).hexdigest()


def folder_of(done) -> str:
    """What the process of the fixture `fetch` found."""
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip().splitlines()[-1]
