"""An S3-compatible server for the tests, in memory: moto. Prints its port when it answers, ends with its input.

Requests take turns, so that a conditional PUT decides between two writers as it does on a real store.
"""

import sys
import threading

import boto3
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server


class Quiet(WSGIRequestHandler):
    def log(self, kind, message, *args):
        pass


def main(buckets):
    turn = threading.Lock()
    moto = DomainDispatcherApplication(create_backend_app)

    def one_at_a_time(environ, start_response):
        with turn:
            return list(moto(environ, start_response))

    server = make_server("127.0.0.1", 0, one_at_a_time, threaded=True, request_handler=Quiet)
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
