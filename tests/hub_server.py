"""A stand-in for the Hugging Face hub that takes uploads."""

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

TOKEN = "hf_of_a_test"


class Hub(ThreadingHTTPServer):
    """Whether the repositories are `private`, and their `files`, by type and name."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.address = f"http://127.0.0.1:{self.server_port}"
        self.private: dict[tuple[str, str], bool] = {}
        self.files: dict[tuple[str, str], dict[str, bytes]] = {}


class _Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_GET(self) -> None:
        kind, *name = self.path.split("?")[0].split("/")[2:]
        is_private = self.server.private.get((kind.removesuffix("s"), "/".join(name)))
        if is_private and self.headers["Authorization"] != f"Bearer {TOKEN}":
            self._answer(401, {"error": "Invalid username or password."})
        elif is_private is None:
            self._answer(404, {"error": "Repository not found"})
        else:
            self._answer(200, {"id": "/".join(name), "private": is_private})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers["Authorization"] != f"Bearer {TOKEN}":
            self._answer(401, {"error": "Invalid username or password."})
            return
        path = self.path.split("?")[0].split("/")[2:]
        if path == ["repos", "create"]:
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            kind = asked.get("type", "model")
            is_private = asked.get("private", asked.get("visibility") == "private")
            is_new = (kind, name) not in self.server.private
            self.server.private.setdefault((kind, name), is_private)
            self._answer(200 if is_new else 409, {"url": f"{self.server.address}/{kind}s/{name}"})
        elif path == ["validate-yaml"]:
            self._answer(200, {"errors": [], "warnings": []})
        elif path[3] == "preupload":
            names = [file["path"] for file in json.loads(body)["files"]]
            files = [
                {"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in names
            ]
            self._answer(200, {"files": files})
        elif path[3] == "commit":
            kind, name = path[0].removesuffix("s"), "/".join(path[1:3])
            for line in body.decode().splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    content = base64.b64decode(entry["value"]["content"])
                    self.server.files.setdefault((kind, name), {})[entry["value"]["path"]] = content
            self._answer(
                200, {"commitUrl": f"{self.server.address}/{name}/commit/0", "commitOid": "0" * 40}
            )
        else:
            self._answer(404, {"error": self.path})

    def _answer(self, status: int, content: dict) -> None:
        text = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@contextmanager
def hub() -> Iterator[Hub]:
    """A hub that serves on this machine until the end of the block."""
    server = Hub()
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
