"""The command `erc-graph serve`: label conversations over HTTP with a trained model."""

from __future__ import annotations

import argparse
import ipaddress
from collections.abc import Sequence
from importlib.util import find_spec

from erc_graph.cli.command import Parser, add_model, command, remark
from erc_graph.cli.graph import load_model
from erc_graph.cli.predict import extractor_pairs
from erc_graph.errors import ConfigError

DESCRIPTION = """Label conversations over HTTP with a trained model. The service labels whole
conversations, as `erc-graph predict` does. If the model is causal, it also
labels live conversations, one utterance at a time. All requests use the same
model. After Ctrl-C or SIGTERM, the service first answers the running requests.
The command needs: pip install "erc_graph[serve]"
"""
EXAMPLES = """  erc-graph serve --model runs/meld
      start the service; http://127.0.0.1:8000 explains the endpoints
  curl http://127.0.0.1:8000/predict --data-binary @talk.txt
      label a transcript, JSON, JSON lines or CSV
  curl http://127.0.0.1:8000/predict -d '[{"speaker": "Ann", "text": "Hi!"}]'
      label JSON from the command line

There is no authentication and no TLS: everyone who can reach the port can use
the model. Put a proxy in front of it if other machines can reach the port.
"""


def make_parser() -> argparse.ArgumentParser:
    """Return the argument parser of the command `erc-graph serve`."""
    parser = Parser(prog="erc-graph serve", description=DESCRIPTION, examples=EXAMPLES)
    add_model(parser)
    parser.add_argument(
        "--extractor",
        metavar="NAME=ENCODER",
        action="append",
        default=[],
        help="encoder of a text feature set, such as text=all-MiniLM-L6-v2 or text=FOLDER, instead of the encoder that the model names",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1, only this machine)")
    parser.add_argument("--port", type=int, default=8000, help="port; 0: any free port (default: 8000)")
    parser.add_argument(
        "--workers",
        type=int,
        default=0,
        metavar="N",
        help="number of requests processed at the same time (default: one per core, at most 4)",
    )
    parser.add_argument(
        "--queue",
        type=int,
        default=256,
        metavar="N",
        help="largest number of waiting requests; further requests get status 503 (default: 256)",
    )
    parser.add_argument("--body", type=int, default=8, metavar="MIB", help="largest size of a request in MiB (default: 8)")
    parser.add_argument(
        "--timeout", type=float, default=30.0, metavar="SECONDS", help="longest duration of a request in seconds (default: 30)"
    )
    parser.add_argument(
        "--sessions",
        type=int,
        default=256,
        metavar="N",
        help="largest number of live conversations; their memory is limited to 4 MiB times N (default: 256)",
    )
    parser.add_argument(
        "--idle",
        type=float,
        default=900.0,
        metavar="SECONDS",
        help="a live conversation is deleted after this number of seconds without an utterance (default: 900)",
    )
    return parser


@command
def main(argv: Sequence[str]) -> int:
    """Run the command `erc-graph serve` and return its exit code: 0 ended by SIGTERM, 2 error, 130 stopped."""
    options = make_parser().parse_args(argv)
    extractors = extractor_pairs(options.extractor)
    if lacking := [name for name in ("fastapi", "uvicorn", "prometheus_client") if find_spec(name) is None]:
        raise ConfigError(f"serve: the package {lacking[0]} is not installed; install it with pip install 'erc_graph[serve]'")
    from erc_graph.serving.limits import Limits

    names = ("workers", "queue", "body", "timeout", "sessions", "idle")
    limits = Limits(**{name: getattr(options, name) for name in names})
    from erc_graph.serving.heap import one_heap
    from erc_graph.serving.server import listen, run
    from erc_graph.serving.service import Service
    from erc_graph.serving.web import make_app

    one_heap()
    with listen(options.host, options.port) as sock:
        service = Service(load_model(options.model, options.method), limits, extractors=extractors, say=remark)
        service.warm()
        host, port = sock.getsockname()[:2]
        if not ipaddress.ip_address(host).is_loopback:
            remark(f"other machines can reach {host}, and everyone who reaches port {port} can use the model; put a proxy in front of it")
        print(f"{options.model}: http://{f'[{host}]' if ':' in host else host}:{port}", flush=True)
        run(make_app(service, limits), sock, limits.timeout)
    return 0
