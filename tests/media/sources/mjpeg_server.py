"""A web server with a motion JPEG stream: ``mjpeg_server.py PORT FOLDER EPOCH``. Needs the standard library only.

``/stream`` gives the folder's pictures, 25 a second; which one is told by the time since EPOCH, so that numbers go on
where they would be when the server is killed and started again. Says "ready" when it listens.
"""

import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PERIOD = 0.04


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path != "/stream":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        while True:
            number = int((time.time() - epoch) / PERIOD)
            data = pictures[number % len(pictures)]
            try:
                self.wfile.write(b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(data))
                self.wfile.write(data + b"\r\n")
            except OSError:
                return
            time.sleep(max(epoch + (number + 1) * PERIOD - time.time(), 0))

    def log_message(self, *arguments):
        pass


pictures = [path.read_bytes() for path in sorted(Path(sys.argv[2]).iterdir())]
epoch = float(sys.argv[3])
with ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler) as server:
    print("ready", flush=True)
    server.serve_forever()
