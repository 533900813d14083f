"""A web server of a folder whose network can be bad, for tests of stores by URL."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class Network:
    """What is wrong with the network, and what was asked for."""

    def __init__(self) -> None:
        self.failures = self.cut = 0
        self.piece, self.pause = 2**20, 0.0
        self.instead: dict[str, Path] = {}
        """Files that come once instead of those asked for, as from a proxy that mixes up what it holds."""
        self.asked: list[str] = []


class _Web(SimpleHTTPRequestHandler):
    def __init__(self, *arguments: Any, network: Network, **named: Any) -> None:
        self.network = network
        super().__init__(*arguments, **named)

    def do_GET(self) -> None:
        self.network.asked.append(self.path)
        if self.network.failures:
            self.network.failures -= 1
            self.send_error(503)
            return
        super().do_GET()

    def translate_path(self, path: str) -> str:
        given = self.network.instead.get(path)
        if self.command == "GET":  # not for the question for its size, which comes before
            self.network.instead.pop(path, None)
        return str(given or super().translate_path(path))

    def copyfile(self, source: Any, outputfile: Any) -> None:
        if self.network.cut:
            self.network.cut -= 1
            outputfile.write(source.read(10))  # of as many as the header says
            return
        while piece := source.read(self.network.piece):
            time.sleep(self.network.pause)
            outputfile.write(piece)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def serving(folder: Path) -> Iterator[tuple[str, Network]]:
    """Serve a folder; yield its URL and the network."""
    network = Network()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Web, network=network, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", network
        server.shutdown()
