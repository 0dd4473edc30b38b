"""The HTTP API of AWS Batch over `Jobs` and of SageMaker over `ProcessingJobs`: the calls that pipeline and tests make.

Run it where the executor's package is: `python -m skyfan_localstack.schedulers.server --queues skyfan-cpu`.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from skyfan_localstack.schedulers.batch import Jobs
from skyfan_localstack.schedulers.processes import RequestError
from skyfan_localstack.schedulers.sagemaker import OPT_ML, ProcessingJobs, link_opt_ml

MAX_REQUEST_BYTES = 2**20
DEFAULT_PORT = 9010

Answer = Callable[[dict[str, Any]], dict[str, Any]]


def _routes(jobs: Jobs, processing: ProcessingJobs) -> dict[str, Answer]:
    """By path, and for SageMaker, whose calls share one path, by X-Amz-Target."""

    def terminated(asked: dict[str, Any]) -> dict[str, Any]:
        jobs.terminate(asked["jobId"], asked["reason"])
        return {}

    return {
        "/v1/registerjobdefinition": jobs.register,
        "/v1/submitjob": jobs.submit,
        "/v1/describejobs": lambda asked: {"jobs": jobs.describe(asked["jobs"])},
        "/v1/terminatejob": terminated,
        "SageMaker.CreateProcessingJob": processing.create,
        "SageMaker.DescribeProcessingJob": processing.describe,
        "SageMaker.StopProcessingJob": processing.stop,
    }


def make_server(jobs: Jobs, processing: ProcessingJobs, address: tuple[str, int]) -> ThreadingHTTPServer:
    """A server that is not serving yet; port 0 takes any."""
    routes = _routes(jobs, processing)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            asked = self.headers.get("X-Amz-Target") or self.path
            answer = routes.get(asked)
            if answer is None or length > MAX_REQUEST_BYTES:
                self._reply(400, {"message": f"{asked} is not served here"}, "ClientException")
                return
            try:
                self._reply(200, answer(json.loads(self.rfile.read(length) or b"{}")))
            except (RequestError, KeyError, ValueError) as error:
                self._reply(400, {"message": str(error)}, getattr(error, "name", "ClientException"))

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
def serving(jobs: Jobs, address: tuple[str, int] = ("127.0.0.1", 0)) -> Iterator[str]:
    """Serves until the block ends, jobs included; gives the endpoint's URL."""
    processing = ProcessingJobs()
    server = make_server(jobs, processing, address)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://{address[0]}:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=10)
        jobs.close()
        processing.close()


def main() -> None:
    """Serves until the process is stopped."""
    parser = argparse.ArgumentParser(description="AWS Batch and SageMaker with processes in place of containers.")
    parser.add_argument("--port", type=int, default=DEFAULT_PORT)
    parser.add_argument("--queues", nargs="+", default=["skyfan-cpu"])
    parser.add_argument("--slots", type=int, default=4, help="tasks of Batch at once")
    given = parser.parse_args()
    link_opt_ml(OPT_ML)
    address = ("0.0.0.0", given.port)  # noqa: S104 (a container's)
    make_server(Jobs(given.queues, given.slots), ProcessingJobs(), address).serve_forever()


if __name__ == "__main__":
    main()
