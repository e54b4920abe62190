"""A hub on loopback: as much of its API as huggingface_hub needs to look up a model and download its files."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

GATED = "Access to model is restricted. You must have access to it and be authenticated to access it."


@dataclass
class Hub:
    """commits: of a model, by name of the revision, the folder with its files. cut: files that end after so many bytes.
    seen: every request, as `METHOD path`, with the range if one was asked for."""

    commits: dict[str, dict[str, Path]] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    cut: dict[str, int] = field(default_factory=dict)
    seen: list[str] = field(default_factory=list)
    url: str = ""

    def commit(self, model: str, revision: str) -> tuple[str, Path] | None:
        """The commit that a revision leads to, and its folder."""
        for name, folder in self.commits[model].items():
            sha = hashlib.sha1(f"{model}@{folder}".encode()).hexdigest()
            if revision in (name, sha):
                return sha, folder
        return None


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """The hub at hub.url, until the block ends."""

    class Bound(Handler):
        pass

    Bound.hub = hub
    server = ThreadingHTTPServer(("127.0.0.1", 0), Bound)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Handler(BaseHTTPRequestHandler):
    hub: Hub

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        self.hub.seen.append(f"{self.command} {path} {self.headers.get('Range', '')}".strip())
        for pattern, answer in ROUTES.items():
            if match := re.fullmatch(pattern, path):
                return answer(self, **match.groupdict())
        return self.refuse(404, "EntryNotFound")

    def info(self, model: str, revision: str = "main") -> None:
        if found := self.found(model, revision):
            files = [{"rfilename": path.name} for path in sorted(found[1].iterdir())]
            self.send(json.dumps({"id": model, "sha": found[0], "siblings": files}).encode())

    def tree(self, model: str, revision: str) -> None:
        if found := self.found(model, revision):
            files = [
                {"type": "file", "path": path.name, "size": path.stat().st_size, "oid": etag(path)}
                for path in sorted(found[1].iterdir())
            ]
            self.send(json.dumps(files).encode())

    def file(self, model: str, revision: str, name: str) -> None:
        if not (found := self.found(model, revision)):
            return
        sha, folder = found
        if not (folder / name).is_file():
            return self.refuse(404, "EntryNotFound")
        headers = {"ETag": f'"{etag(folder / name)}"', "X-Repo-Commit": sha, "Accept-Ranges": "bytes"}
        self.send((folder / name).read_bytes(), headers, self.hub.cut.get(name))

    def found(self, model: str, revision: str) -> tuple[str, Path] | None:
        """The commit, or None when the request is answered with why there is none."""
        if model in self.hub.gated:
            self.refuse(403, "GatedRepo", GATED)
        elif model not in self.hub.commits:
            self.refuse(401, "RepoNotFound")
        elif (found := self.hub.commit(model, revision)) is None:
            self.refuse(404, "RevisionNotFound")
        else:
            return found
        return None

    def send(self, content: bytes, headers: dict[str, str] | None = None, cut: int | None = None) -> None:
        """The content, or the range of it that was asked for; only `cut` bytes of it where the line is bad."""
        first = int(match[1]) if (match := re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))) else 0
        part = content[first:]
        self.send_response(206 if first else 200)
        if first:
            self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
        for name, value in {"Content-Length": str(len(part)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(part[:cut])

    def refuse(self, status: int, code: str, message: str = "") -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", message or code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


MODEL, REVISION = r"(?P<model>[^/]+/[^/]+)", r"(?P<revision>[^/]+)"
ROUTES = {
    rf"/api/models/{MODEL}": Handler.info,
    rf"/api/models/{MODEL}/revision/{REVISION}": Handler.info,
    rf"/api/models/{MODEL}/tree/{REVISION}": Handler.tree,
    rf"/{MODEL}/resolve/{REVISION}/(?P<name>.+)": Handler.file,
}


def etag(path: Path) -> str:
    return hashlib.sha1(path.read_bytes()).hexdigest()
