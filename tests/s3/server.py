"""An S3-compatible server for the tests, in memory: moto. Prints its port when it answers, ends with its input.

Requests take turns, so that a conditional PUT decides between two writers as it does on a real store.

What is to go wrong is said by `POST /-/fault` with {"kind", "method", "path" (a regular expression), "n"}: the next `n`
such requests get it. `DELETE /-/fault` ends it, `GET /-/fault` tells how many requests the present one has met. Kinds:

- `unavailable`: answered 503, nothing done
- `hang`: no answer until the fault ends, nothing done
- `lost`: done, and the connection is dropped without an answer
- `disowned`: done, and answered 503
"""

import json
import re
import sys
import threading

import boto3
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

BUSY = b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"


class Handler(WSGIRequestHandler):
    def log(self, kind, message, *args):
        pass

    def connection_dropped(self, error, environ=None):
        # Otherwise the connection would be kept for a next request, and its client would wait for an answer.
        self.close_connection = True


class Fault:
    def __init__(self, kind, method, path, n):
        self.kind, self.method, self.path, self.left = kind, method, re.compile(path), n
        self.met = 0
        self.ended = threading.Event()


class Faults:
    """The fault of now; asked by several threads."""

    def __init__(self):
        self.guard = threading.Lock()
        self.present = None

    def put(self, fault):
        with self.guard:
            if self.present:
                self.present.ended.set()
            self.present = fault

    def met(self):
        with self.guard:
            return self.present.met if self.present else 0

    def meets(self, method, path):
        with self.guard:
            fault = self.present
            if not fault or fault.left == 0 or fault.method != method or not fault.path.search(path):
                return None
            fault.left -= 1
            fault.met += 1
            return fault


def said(environ, faults):
    """Carries out a request to `/-/fault`."""
    if environ["REQUEST_METHOD"] == "POST":
        body = json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
        faults.put(Fault(body["kind"], body["method"], body["path"], body["n"]))
    elif environ["REQUEST_METHOD"] == "DELETE":
        faults.put(None)
    return json.dumps({"met": faults.met()}).encode()


def main(buckets):
    turn = threading.Lock()
    moto = DomainDispatcherApplication(create_backend_app)
    faults = Faults()

    def carried_out(environ, start_response):
        with turn:
            return list(moto(environ, start_response))

    def busy(start_response):
        start_response("503 Slow Down", [("Content-Type", "application/xml"), ("Content-Length", str(len(BUSY)))])
        return [BUSY]

    def answer(environ, start_response):
        if environ["PATH_INFO"] == "/-/fault":
            text = said(environ, faults)
            start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(text)))])
            return [text]
        fault = faults.meets(environ["REQUEST_METHOD"], environ["PATH_INFO"])
        if not fault:
            return carried_out(environ, start_response)
        # The body is read in any case: what is left of it would be taken for the next request.
        if fault.kind in ("lost", "disowned"):
            carried_out(environ, lambda *_: None)
        else:
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        if fault.kind == "hang":
            fault.ended.wait()
        if fault.kind in ("hang", "lost"):
            raise ConnectionResetError
        return busy(start_response)

    server = make_server("127.0.0.1", 0, answer, threaded=True, request_handler=Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    client = boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{server.port}",
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    for bucket in buckets:
        name, _, kind = bucket.partition(":")
        client.create_bucket(Bucket=name)
        if kind == "versioned":
            client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    print(server.port, flush=True)
    sys.stdin.read()


main(sys.argv[1:])
