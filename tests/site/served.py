"""A folder as a web server gives it, and waiting for what comes from it."""

import http.server
import mimetypes
import threading
import time

PATIENCE = 300  # seconds to wait for anything, on a busy machine
# A page that is served with these may have threads that share memory.
ISOLATED = {"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp"}
# Not every machine's list has these, and a browser takes a module or a program only if the server says that it is one.
mimetypes.add_type("text/javascript", ".mjs")
mimetypes.add_type("application/wasm", ".wasm")


class Server(http.server.ThreadingHTTPServer):
    """Of a folder, with more headers. It remembers the paths that were asked for, and the answers' numbers."""

    def __init__(self, folder, headers):
        asked = self.asked = []

        class Handler(http.server.SimpleHTTPRequestHandler):
            def __init__(self, *given):
                super().__init__(*given, directory=str(folder))

            def end_headers(self):
                for each in headers.items():
                    self.send_header(*each)
                super().end_headers()

            def log_request(self, code="-", size="-"):
                asked.append((self.command, self.path, int(code)))

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def address(self):
        return f"http://127.0.0.1:{self.server_port}"


def wait(until):
    """Returns when `until()` is true; an error in it counts as not yet."""
    begin = time.monotonic()
    while True:
        try:
            if until():
                return
        except Exception:  # what is looked for is not there yet
            pass
        assert time.monotonic() - begin < PATIENCE, "it did not come"
        time.sleep(0.05)
