"""Command line: `python -m tfbnas.device benchmark MODEL.tflite --target ssh:user@host`."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

from tfbnas.device.benchmark import benchmark
from tfbnas.device.table import table
from tfbnas.device.targets import open_target
from tfbnas.errors import UserError
from tfbnas.files import write_json


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tfbnas.device", description="Measures models on real machines.")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("benchmark", help="time of one model, with Larq Compute Engine's benchmark program")
    run.add_argument("model", metavar="MODEL.tflite")
    run.add_argument("--target", required=True, help="ssh:user@host, adb, adb:serial or host")
    run.add_argument("--binary", help="lce_benchmark_model: a file here, which is copied, or a path on the target")
    run.add_argument("--threads", type=int, default=1, help="threads of the runtime (default 1)")
    run.add_argument("--cpu_mask", help="hexadecimal mask of processors for taskset, for instance f0")
    run.add_argument("--repetitions", type=int, default=50, help="runs at least (default 50)")
    run.add_argument("--profile", action="store_true", help="run a second time for the time of each operator")
    run.add_argument("--no_xnnpack", action="store_true", help="float operators one by one, slower than they run")
    run.add_argument("--timeout", type=float, default=300.0, help="seconds for one run (default 300)")
    run.add_argument("--directory", default="", help="directory on the target for temporary files")
    run.add_argument("--ssh_config", help="settings of ssh instead of ~/.ssh/config")
    run.add_argument("--json", metavar="OUT", help="write the result there, too")
    return parser


def _terminated(number: int, frame: object) -> NoReturn:
    # As an exception, so that the target is cleaned up on the way out.
    raise SystemExit(128 + number)


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, 2 for an error that the user can mend, 130 after an interrupt."""
    options = _parser().parse_args(arguments)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _terminated)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs start with it ignored
    try:
        result = benchmark(
            options.model,
            open_target(options.target, directory=options.directory, ssh_config=options.ssh_config),
            binary=options.binary,
            threads=options.threads,
            cpu_mask=options.cpu_mask,
            repetitions=options.repetitions,
            profile=options.profile,
            xnnpack=not options.no_xnnpack,
            timeout=options.timeout,
        )
        print(table(result))
        if options.json:
            write_json(options.json, result.to_dict())
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; nothing is left on the target", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
