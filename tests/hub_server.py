"""A hub on this machine that answers well, slowly, cuts off, or lies."""

import hashlib
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

REVISION = "1" * 40


class Hub:
    """`behave`: "well", "slow" (never answers in time), "cut" (half of the bytes), "lie" (other bytes), "none" (404),
    "silent" (states no hash)."""

    def __init__(self, files: dict[str, bytes]):
        self.files, self.behave, self.got = files, "well", []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self):
                self.answer(False)

            def do_GET(self):
                self.answer(True)

            def answer(self, with_body: bool):
                name = self.path.split(f"/resolve/{REVISION}/")[-1]
                if hub.behave == "none" or name not in hub.files:
                    self.send_response(404)
                    self.send_header("X-Error-Code", "EntryNotFound")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                content = hub.files[name]
                hub.got += [name] if with_body else []
                if hub.behave == "slow" and with_body:
                    time.sleep(2)
                start = int(self.headers.get("Range", "bytes=0-").split("=")[1].split("-")[0])
                body = (b"?" * len(content) if hub.behave == "lie" else content)[start:]
                self.send_response(206 if start else 200)
                etag = hashlib.sha256(content).hexdigest() if hub.behave != "silent" else "abc"
                self.send_header("ETag", f'"{etag}"')
                self.send_header("X-Repo-Commit", REVISION)
                self.send_header("Content-Length", str(len(body)))
                if start:
                    self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
                self.end_headers()
                if with_body:
                    self.wfile.write(body[: len(body) // 2] if hub.behave == "cut" else body)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.handle_error = lambda *_: None  # a client that has lost its patience
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
