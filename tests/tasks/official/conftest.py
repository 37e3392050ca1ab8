"""A server on this machine, and a folder for what it serves."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


@pytest.fixture
def server():
    """Serves `server.files` path → bytes; `server.asked` lists the paths; a path in `server.short` ends early.

    `server.raw` path → all that is sent.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            running.asked.append(self.path)
            if self.path in running.raw:
                self.wfile.write(running.raw[self.path])
                self.close_connection = True
                return
            if self.path not in running.files:
                self.send_error(404)
                return
            body = running.files[self.path]
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[:-1] if self.path in running.short else body)

        def log_message(self, *_):
            pass

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    running.files, running.raw, running.asked, running.short = {}, {}, [], set()
    running.url = f"http://127.0.0.1:{running.server_port}"
    thread = threading.Thread(target=running.serve_forever, args=(0.01,))
    thread.start()
    yield running
    running.shutdown()
    thread.join()
    running.server_close()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where downloads go, which is not there yet."""
    monkeypatch.setenv("PCBENCH_DATA", str(tmp_path / "data"))
    # the server is on this machine, whatever proxy the environment names
    monkeypatch.setenv("no_proxy", "*")
    return tmp_path / "data"
