"""Ray Serve with ``@serve.batch`` around the hub's own verifier, by the interpreter of an environment that holds Ray.

FOLDER is for Ray's files. Prints the address of POST / {response, reference} and ends when standard input does.
The batcher has its defaults, 10 items or 10 ms; the deployment takes any number of calls, since with Ray's limit
of 5 the router backs off.
"""

import importlib.util
import socket
import sys
from pathlib import Path
from typing import Any

import ray
from ray import serve
from starlette.requests import Request
from starlette.responses import JSONResponse

VERIFIERS = str(Path(__file__).with_name("bench_verifiers.py"))


@serve.deployment(max_ongoing_requests=1000)
class Scorer:
    def __init__(self, verifiers: str) -> None:
        from rewardhub.types import Response

        spec = importlib.util.spec_from_file_location("bench_verifiers", verifiers)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        self.function, self.response = module.bench_ends.function, Response

    @serve.batch(max_batch_size=10, batch_wait_timeout_s=0.01)
    async def score(self, items: list[dict[str, Any]]) -> list[float]:
        return [self.function(self.response(item["response"]), item["reference"]) for item in items]

    async def __call__(self, request: Request) -> JSONResponse:
        return JSONResponse({"score": await self.score(await request.json())})


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def main(folder: str) -> None:
    ray.init(
        num_cpus=2, include_dashboard=False, object_store_memory=100 * 2**20, logging_level="error",
        log_to_driver=False, _node_ip_address="127.0.0.1", _temp_dir=folder,
    )  # fmt: skip
    port = free_port()
    serve.start(
        http_options={"host": "127.0.0.1", "port": port},
        logging_config={"log_level": "ERROR", "enable_access_log": False},
    )
    serve.run(Scorer.bind(VERIFIERS), logging_config={"log_level": "ERROR", "enable_access_log": False})
    print(f"http=http://127.0.0.1:{port} version={ray.__version__}", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main(sys.argv[1])
