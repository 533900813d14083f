"""A stand-in for the Hugging Face Hub: its HTTP API for repositories of models, in memory, on this machine."""

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

TOKENS = {"hf_writer": "someone", "hf_other": "other"}


class Hub:
    """What the server holds: files and visibility of each repository."""

    def __init__(self) -> None:
        self.files: dict[str, dict[str, bytes]] = {}
        self.private: dict[str, bool] = {}
        self.address = ""


@contextmanager
def serving() -> Iterator[Hub]:
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Keep the tests' output quiet."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        user = TOKENS.get(self.headers.get("Authorization", "").removeprefix("Bearer "))
        if self.path == "/api/validate-yaml":
            return self._json({"errors": [], "warnings": []})
        if user is None:
            return self._json({"error": "Invalid username or password."}, 401)
        if self.path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked.get('organization') or user}/{asked['name']}"
            if name.partition("/")[0] != user:
                return self._json({"error": f"no rights to create under {name}"}, 403)
            there = name in self.hub.files
            self.hub.files.setdefault(name, {".gitattributes": b""})
            if not there:
                self.hub.private[name] = asked.get("private") is True or asked.get("visibility") == "private"
            return self._json({"url": f"{self.hub.address}/{name}", "name": name}, 409 if there else 200)
        name, _, rest = self.path.removeprefix("/api/models/").partition("/preupload/")
        if rest:
            asked = json.loads(body)["files"]
            known = [{"path": one["path"], "uploadMode": "regular", "shouldIgnore": False} for one in asked]
            return self._json({"files": known})
        name = self.path.removeprefix("/api/models/").partition("/commit/")[0]
        for line in body.splitlines():
            change = json.loads(line)
            value = change["value"]
            if change["key"] == "file":
                self.hub.files[name][value["path"]] = base64.b64decode(value["content"])
            elif change["key"] == "deletedFile":
                self.hub.files[name].pop(value["path"])
        commit = _commit(self.hub.files[name])
        return self._json({"commitUrl": f"{self.hub.address}/{name}/commit/{commit}", "commitOid": commit})

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path.startswith("/api/models/"):
            owner, repository, *rest = path.removeprefix("/api/models/").split("/")
            files = self.hub.files.get(f"{owner}/{repository}")
            if files is None:
                return self._json({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
            if rest and rest[0] == "tree":
                return self._json(
                    [
                        {"type": "file", "path": one, "size": len(data), "oid": _mark(data)}
                        for one, data in files.items()
                    ]
                )
            listed = [{"rfilename": one} for one in files]
            return self._json({"id": f"{owner}/{repository}", "sha": _commit(files), "siblings": listed})
        return self._file(path)

    def do_HEAD(self) -> None:
        self.do_GET()

    def _file(self, path: str) -> None:
        parts = path.strip("/").split("/")
        files = self.hub.files.get("/".join(parts[:2]), {})
        data = files.get("/".join(parts[4:]))
        if data is None:
            return self._json({"error": "not found"}, 404, {"X-Error-Code": "EntryNotFound"})
        return self._send(data, 200, {"ETag": f'"{_mark(data)}"', "X-Repo-Commit": _commit(files)})

    def _json(self, content: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self._send(json.dumps(content).encode(), status, {"Content-Type": "application/json", **(headers or {})})

    def _send(self, data: bytes, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


def _mark(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()


def _commit(files: dict[str, bytes]) -> str:
    """Return a name for the state of a repository; clients keep what they know of a commit."""
    return _mark(json.dumps({name: _mark(data) for name, data in sorted(files.items())}).encode())
