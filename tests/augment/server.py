"""A local server that speaks the protocols of OpenAI and of translation services, and misbehaves when told to."""

import json
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from inspect import signature
from urllib.parse import parse_qsl

KEY = "sk-not-a-real-key-123"


def completion(content, finish="stop", **message):
    choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": content, **message}}
    return {"id": "x", "object": "chat.completion", "created": 0, "model": "test", "choices": [choice]}


def say(*texts):
    return 200, completion(json.dumps({"texts": texts}, ensure_ascii=False))


def text_of(body):
    """What is to be worked on: OpenAI's, Tencent's, DeepL's, and the others' request."""
    if "messages" in body:
        data = json.loads(body["messages"][1]["content"])
        return data.get("text") or data["a"]
    text = body.get("SourceText") or body.get("text") or body.get("q")
    return text[0] if isinstance(text, list) else text


class Server(ThreadingHTTPServer):
    """`script(text, how often it was asked) -> (status, body[, headers])`; a body may be raw bytes.

    A script with a third parameter is given the request's body, too: one text may be sent for several tasks.
    """

    daemon_threads = True

    def __init__(self, script):
        super().__init__(("127.0.0.1", 0), Handler)
        self.script = script if len(signature(script).parameters) == 3 else lambda text, turn, body: script(text, turn)
        self.requests = []
        self.asked = Counter()
        self.busy = self.busiest = 0
        self.lock = threading.Lock()
        self.url = f"http://127.0.0.1:{self.server_port}"

    def texts(self):
        return [text_of(body) for _, body, _ in self.requests]


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        raw = self.rfile.read(int(self.headers["content-length"])).decode()
        body = json.loads(raw) if "json" in self.headers["content-type"] else dict(parse_qsl(raw))
        text = text_of(body)
        with self.server.lock:
            turn = self.server.asked[text]
            self.server.asked[text] += 1
            headers = {name.lower(): value for name, value in self.headers.items()} | {"path": self.path}
            self.server.requests.append((headers, body, time.monotonic()))
            self.server.busy += 1
            self.server.busiest = max(self.server.busiest, self.server.busy)
        status, answer, *headers = self.server.script(text, turn, body)
        with self.server.lock:
            self.server.busy -= 1
        raw = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        try:
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(raw)))
            for name, value in (headers[0] if headers else {}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(raw)
        except BrokenPipeError:
            self.close_connection = True  # the client gave up waiting, as it should

    def log_message(self, *_):
        """Keep the test's output clean."""


class Waiting:
    """A script that answers `late` to the first request of every text, after a minute, and `soon` to all others."""

    def __init__(self, late, soon):
        self.late, self.soon = late, soon

    def __call__(self, text, turn):
        if turn:
            return self.soon
        time.sleep(60)
        return self.late


def running(script):
    """A server that answers until it is shut down."""
    server = Server(script)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    return server
