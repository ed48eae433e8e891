"""The command line of the service: `python -m bgetune.serve runs/mine`."""

from __future__ import annotations

import argparse
import sys
import threading
from collections.abc import Sequence
from types import FrameType

from bgetune.errors import InputError
from bgetune.locale import _
from bgetune.scoring.scorer import Scorer


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGINT or SIGTERM. Returns the exit status.

    After the signal /health answers 503 and every answer closes its connection, for `--drain` seconds, so that a load
    balancer and clients that keep connections open go elsewhere; then no new connection is accepted, and what has begun
    is answered. A second signal ends at once.
    """
    parser = argparse.ArgumentParser(
        prog="python -m bgetune.serve", description=_("Serve a finished run over HTTP. Needs bgetune[serve].")
    )
    parser.add_argument("run", help=_("folder of a finished run, for example runs/demo"))
    parser.add_argument(
        "--host", default="127.0.0.1", help=_("address to listen on; 0.0.0.0: all (default: %(default)s)")
    )
    parser.add_argument("--port", type=int, default=8000, help=_("default: %(default)s"))
    parser.add_argument("--device", default="auto", help=_("auto, cpu, cuda... (default: %(default)s)"))
    parser.add_argument("--batch", type=int, default=64, help=_("most texts encoded at once (default: %(default)s)"))
    parser.add_argument(
        "--waiting",
        type=int,
        default=4096,
        help=_("most texts of requests that are not answered yet; over it 503 (default: %(default)s)"),
    )
    parser.add_argument(
        "--drain", type=float, default=2.0, help=_("seconds to go on after the signal to end (default: %(default)s)")
    )
    options = parser.parse_args(arguments)
    try:
        import uvicorn

        from bgetune.serve.app import make_app
    except ModuleNotFoundError as error:
        missing = _("{package} is missing; pip install 'bgetune[serve]'").format(package=error.name)
        print(_("error: {message}").format(message=missing), file=sys.stderr)
        return 2
    try:
        scorer = Scorer.load(options.run, device=options.device)
    except InputError as error:
        print(_("error: {message}").format(message=error), file=sys.stderr)
        return 2
    app = make_app(scorer, batch=options.batch, waiting=options.waiting)
    config = uvicorn.Config(app, host=options.host, port=options.port, access_log=False, timeout_graceful_shutdown=60)
    server = uvicorn.Server(config)
    end = server.handle_exit

    def drain(signal: int, frame: FrameType | None) -> None:
        if app.state.draining:
            end(signal, frame)
        else:
            app.state.draining = True
            threading.Timer(options.drain, end, (signal, frame)).start()

    server.handle_exit = drain  # type: ignore[assignment,method-assign]  # uvicorn's handler of signals
    server.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
