"""The HTTP API of AWS Batch over `Jobs`: the four calls that the pipeline and its tests make.

Run it where the executor's package is: `python -m skyfan_localstack.batch.server --queues skyfan-cpu`.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from skyfan_localstack.batch.jobs import ClientError, Jobs

MAX_REQUEST_BYTES = 2**20
DEFAULT_PORT = 9010

Answer = Callable[[dict[str, Any]], dict[str, Any]]


def _routes(jobs: Jobs) -> dict[str, Answer]:
    def terminated(asked: dict[str, Any]) -> dict[str, Any]:
        jobs.terminate(asked["jobId"], asked["reason"])
        return {}

    return {
        "/v1/registerjobdefinition": jobs.register,
        "/v1/submitjob": jobs.submit,
        "/v1/describejobs": lambda asked: {"jobs": jobs.describe(asked["jobs"])},
        "/v1/terminatejob": terminated,
    }


def make_server(jobs: Jobs, address: tuple[str, int]) -> ThreadingHTTPServer:
    """A server that is not serving yet; port 0 takes any."""
    routes = _routes(jobs)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            answer = routes.get(self.path)
            if answer is None or length > MAX_REQUEST_BYTES:
                self._reply(400, {"message": f"{self.path} is not served here"}, "ClientException")
                return
            try:
                self._reply(200, answer(json.loads(self.rfile.read(length) or b"{}")))
            except (ClientError, KeyError, ValueError) as error:
                self._reply(400, {"message": str(error)}, "ClientException")

        def _reply(self, status: int, content: dict[str, Any], error: str = "") -> None:
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            if error:
                self.send_header("x-amzn-ErrorType", error)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the base class's name)
            """Nothing: a line a request would bury the jobs' own."""

    return ThreadingHTTPServer(address, Handler)


@contextmanager
def serving(jobs: Jobs) -> Iterator[str]:
    """Serves on any free port until the block ends, jobs included; gives the endpoint's URL."""
    server = make_server(jobs, ("127.0.0.1", 0))
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://{server.server_address[0]}:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=10)
        jobs.close()


def main() -> None:
    """Serves until the process is stopped."""
    parser = argparse.ArgumentParser(description="AWS Batch with processes in place of containers.")
    parser.add_argument("--port", type=int, default=DEFAULT_PORT)
    parser.add_argument("--queues", nargs="+", default=["skyfan-cpu"])
    parser.add_argument("--slots", type=int, default=4, help="tasks at once")
    given = parser.parse_args()
    make_server(Jobs(given.queues, given.slots), ("0.0.0.0", given.port)).serve_forever()  # noqa: S104 (a container's)


if __name__ == "__main__":
    main()
