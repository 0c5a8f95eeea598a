"""Command line of a sweep: `python -m tfbnas.sweep RECIPE ...`."""

from __future__ import annotations

import contextlib
import signal
import socket
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tfbnas.errors import UserError
from tfbnas.files import write_text
from tfbnas.quiet import captured, import_tensorflow
from tfbnas.run import SETTINGS, RunDirectory, differences
from tfbnas.serialization import dump_yaml, load_yaml, plain
from tfbnas.sweep import options, page, results, rows
from tfbnas.sweep.options import Sweep
from tfbnas.sweep.progress import Progress
from tfbnas.sweep.trial import Runner

_POLL = 0.3  # seconds
_LONGEST_WAIT = 600.0  # seconds of a worker for its chief


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the sweep of a command line.

    Returns:
      Exit code: 0 done, 1 where trials failed, 2 for an error that the user can mend, 130 after Ctrl-C.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    if "--help" in argv or "-h" in argv:
        print(options.help_text(), end="")
        return 0
    sweep = None
    try:
        sweep = options.parse(argv)
        return run_worker(sweep) if sweep.role == "worker" else run(sweep)
    except UserError as error:
        say(f"error: {error}")
        return 2
    except KeyboardInterrupt:
        say("Stopped." + (f" To go on: {sweep.again}" if sweep and sweep.run_dir.exists() else ""))
        return 130


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def run(sweep: Sweep) -> int:
    """Runs all trials that the directory does not hold yet, or hands them out; the exit code."""
    check_same(sweep)
    if sweep.role == "chief":
        check_address(sweep)
    with RunDirectory(sweep.run_dir, sweep.to_dict()) as directory:
        directory.log(event="start", role=sweep.role, workers=sweep.workers)
        write_text(directory.path / results.RECIPE_SETTINGS, dump_yaml(sweep.settings))
        (directory.path / "trials").mkdir(exist_ok=True)
        say(f"sweep: {len(sweep.trials)} trials in {sweep.run_dir} (to go on after an interruption: {sweep.again})")
        runner = Runner(sweep)
        with stopping(runner):
            tuner = make_tuner(sweep, runner)
            content = follow(sweep, tuner)
            if sweep.role == "chief":
                tuner.say_farewell()
        failed = summarise(sweep, content)
        directory.log(event="end", failed=failed)
    return 1 if failed else 0


def run_worker(sweep: Sweep) -> int:
    """Runs trials for a chief until none is left; the exit code."""
    waits = False
    deadline = time.monotonic() + _LONGEST_WAIT
    while not (sweep.run_dir / results.RECIPE_SETTINGS).exists():
        if time.monotonic() > deadline:
            raise UserError(
                f"Expected the chief's sweep in {sweep.run_dir}, on storage that all machines share. Received: none."
            )
        if not waits:
            say(f"sweep: waiting for the chief to begin in {sweep.run_dir}")
        waits = True
        time.sleep(_POLL)
    check_same(sweep)
    if all(results.measured(sweep.path(trial)).accuracy is not None for trial in sweep.trials):
        say("sweep: nothing is left to do")
        return 0
    with contextlib.ExitStack() as stack:
        try:
            directory = RunDirectory(sweep.run_dir / "workers" / sweep.tuner_id, {})
        except UserError as error:
            if "in use" not in str(error):
                raise
            raise UserError(
                f"Expected another name for this worker, since {sweep.tuner_id!r} is at work: set the environment "
                "variable KERASTUNER_TUNER_ID, or give the one worker more --workers."
            ) from error
        stack.enter_context(directory)
        directory.log(event="start")
        runner = Runner(sweep, say=say)
        stack.enter_context(stopping(runner))
        tuner = make_tuner(sweep, runner)
        say(f"sweep: worker {sweep.tuner_id} of the chief at {':'.join(sweep.address)}")
        tuner.start()
        while tuner.alive:
            time.sleep(_POLL)
        raise_first(sweep, tuner.errors)
    say("sweep: nothing is left to start")
    return 0


def check_same(sweep: Sweep) -> None:
    """Refuses a directory that holds something else than this sweep."""
    file = sweep.run_dir / SETTINGS
    if not file.exists():
        return
    old = load_yaml(file)
    if "sweep" not in old:
        raise UserError(f"{sweep.run_dir} holds a run of {old.get('recipe')}, no sweep: give another --run_dir.")
    found = differences(old, plain(sweep.to_dict()))
    if found:
        raise UserError(f"{sweep.run_dir} holds another sweep: {found}. Give another --run_dir.")


def check_address(sweep: Sweep) -> None:
    """Refuses an address at which this machine cannot be asked; else workers would wait for ever."""
    host, port = sweep.address
    try:
        with socket.create_server((host, int(port))):
            pass
    except OSError as error:
        raise UserError(
            f"Expected --chief to be a free address of this machine. Received: {host}:{port} ({error.strerror})."
        ) from error


def make_tuner(sweep: Sweep, runner: Runner) -> Any:
    """KerasTuner, and with it TensorFlow, is imported only here."""
    import_tensorflow()
    with captured():
        from tfbnas.sweep.tuner import SweepTuner

    return SweepTuner(sweep, runner)


@contextlib.contextmanager
def stopping(runner: Runner) -> Iterator[None]:
    """Ends the trials when the block ends, however it does; SIGTERM counts as Ctrl-C."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        runner.stop()
        signal.signal(signal.SIGTERM, before)


def follow(sweep: Sweep, tuner: Any) -> dict[str, Any]:
    """Starts the tuner, tells how far it is, and writes the results anew whenever a trial has ended."""
    known = {trial.name: results.measured(sweep.path(trial)).seconds for trial in sweep.trials}
    progress = Progress({name: seconds for name, seconds in known.items() if seconds is not None})
    tuner.start()
    ended: dict[str, str] | None = None
    while True:
        alive, statuses = tuner.alive, tuner.oracle.statuses()
        now = {name: status for name, status in statuses.items() if status in ("finished", "failed")}
        if now != ended:
            content = results.collect(sweep, statuses)
            for row in content["trials"]:
                if row["status"] == "failed" and (ended or {}).get(row["name"]) != "failed":
                    say(f"sweep: {row['name']} failed: {row['reason']}")
            results.write(sweep.run_dir, content)
            page.write(sweep.run_dir, content)
            ended = now
        line = progress.update(statuses)
        if line:
            say(line)
        raise_first(sweep, tuner.errors)
        if not alive:
            return content
        time.sleep(_POLL)


def raise_first(sweep: Sweep, errors: Sequence[BaseException]) -> None:
    """Raises what a thread of the tuner has ended with."""
    for error in errors:
        if type(error).__module__.startswith("grpc"):
            raise UserError(
                f"The chief at {':'.join(sweep.address)} no longer answers: start it again, and then this worker."
            ) from error
        raise error


def summarise(sweep: Sweep, content: Mapping[str, Any]) -> int:
    """Prints the results as a table; the number of failed trials."""
    print("\n\n".join(table.text for table in (rows.networks(content), rows.differences(content)) if table.rows))
    failed = [row["name"] for row in content["trials"] if row["status"] == "failed"]
    if failed:
        print(f"\n{len(failed)} of {len(sweep.trials)} trials failed: {', '.join(failed)}")
        print(f"to try again: {sweep.again}")
    models = "models of the front" if len(sweep.points) > 1 else "models"
    print(f"\n{models}: {sweep.run_dir / results.FRONT}\nreport: {sweep.run_dir / page.PAGE}\n{sweep.run_dir}")
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())
