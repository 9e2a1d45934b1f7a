"""An HTTP proxy in front of one server, that fails on demand."""

import http.client
import http.server
import random
import threading
import time


class FaultyProxy:
    """Forwards requests; `fail` makes it answer an error, or nothing, to a share of them or to all from one on."""

    def __init__(self, port):
        self.port = port
        self.lock = threading.Lock()
        self.heal()
        proxy = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def forward(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                fault = proxy.next_fault()
                if fault == "timeout":
                    # Longer than the client waits; the connection then ends without an answer.
                    time.sleep(3)
                    self.close_connection = True
                    return
                if fault:
                    self.send_response(fault)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                upstream = http.client.HTTPConnection("127.0.0.1", proxy.port)
                headers = {k: v for k, v in self.headers.items() if k.lower() != "connection"}
                upstream.request(self.command, self.path, body, headers)
                answer = upstream.getresponse()
                content = answer.read()
                self.send_response_only(answer.status)
                for name, value in answer.getheaders():
                    if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                        self.send_header(name, value)
                length = answer.getheader("Content-Length") if self.command == "HEAD" else len(content)
                self.send_header("Content-Length", str(length or 0))
                self.end_headers()
                self.wfile.write(content)
                upstream.close()

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = forward

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def fail(self, fault, share=1.0, after=0):
        """`fault`: a status or "timeout", for a share of the requests after the first `after`."""
        with self.lock:
            self.fault, self.share, self.after = fault, share, after
            self.requests = self.faults = 0
            self.random = random.Random(20261123)

    def heal(self):
        self.fail(None)

    def next_fault(self):
        with self.lock:
            self.requests += 1
            if self.fault is None or self.requests <= self.after or self.random.random() >= self.share:
                return None
            self.faults += 1
            return self.fault

    def close(self):
        self.server.shutdown()
        self.server.server_close()
