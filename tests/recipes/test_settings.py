import os
import pty
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import dataclass, field, make_dataclass
from pathlib import Path
from typing import ClassVar, Literal

import pytest
import yaml

from tfbnas.errors import UserError
from tfbnas.hints import type_text
from tfbnas.recipes import settings


@dataclass(frozen=True)
class Search:
    """How widths are searched.

    Attributes:
      rounds: Number of rounds, at least 1.
      sigma: Spread of the ratios at the end, as 100% of the base.
      optimizer: Which.
    """

    rounds: int = 3
    sigma: float = 1
    optimizer: Literal["sgd", "adam"] = "sgd"

    def check(self):
        if self.rounds < 1:
            raise UserError(f"Expected `search.rounds` to be at least 1. Received: {self.rounds}.")


@dataclass(frozen=True)
class Settings:
    seed: int = 0
    """Seed of everything."""
    widths: tuple[float, ...] = (1.0, 2.0)
    """Uniform networks to train, as multiples of the base."""
    data_dir: str | None = None
    flip: bool = True
    search: Search = field(default_factory=Search)

    def check(self):
        if self.seed > 100 and self.search.rounds > 50:
            raise UserError("seed and rounds together")


@pytest.fixture
def presets(tmp_path):
    files = {"quick": "search:\n  rounds: 4\n  sigma: 1e-3\n", "cpu": "seed: 3\nsearch:\n  rounds: 5\n"}
    for name, text in files.items():
        (tmp_path / f"demo_{name}.yaml").write_text(text)
    return {name: tmp_path / f"demo_{name}.yaml" for name in files}


@pytest.fixture
def parse(presets):
    def parse(*argv):
        return settings.parse(
            Settings, argv, program="python -m tfbnas.recipes.demo", description="Demo.", presets=presets
        )

    return parse


@pytest.fixture
def config(tmp_path):
    def write(text):
        (tmp_path / "mine.yaml").write_text(text)
        return "--config", str(tmp_path / "mine.yaml")

    return write


# Values and their order


def test_without_arguments_the_quick_preset(parse):
    command = parse()
    assert command.settings == Settings(search=Search(rounds=4, sigma=0.001))
    assert (command.recipe, command.preset) == ("demo", "quick")
    assert command.run_dir.parent == Path("runs/demo") and command.run_dir.name.startswith("quick-20")


def test_preset_then_config_then_command_line_wherever_they_stand(parse, config):
    arguments = config("search:\n  rounds: 6\n  optimizer: adam\n")
    for argv in (
        ["--preset", "cpu", *arguments, "--search.rounds", "7"],
        ["--search.rounds=7", *arguments, "--preset=cpu"],
    ):
        command = parse(*argv)
        assert command.settings == Settings(seed=3, search=Search(rounds=7, sigma=1.0, optimizer="adam"))
        assert command.run_dir.name.startswith("mine-20")


@pytest.mark.parametrize(
    ("argv", "name", "value"),
    [
        (["--seed", "-3"], "seed", -3),
        (["--widths", "[1, 2.5]"], "widths", (1.0, 2.5)),
        (["--widths=[]"], "widths", ()),
        (["--data_dir", "3"], "data_dir", "3"),
        (["--data_dir", "null"], "data_dir", None),
        (["--data_dir", "/a b/c=d"], "data_dir", "/a b/c=d"),
        (["--flip", "false"], "flip", False),
    ],
)
def test_values_of_the_command_line(parse, argv, name, value):
    found = getattr(parse(*argv).settings, name)
    assert found == value and type(found) is type(value)


def test_an_integer_for_a_number_is_stored_as_a_number(parse, config):
    for argv in (["--search.sigma", "2"], config("search: {sigma: 2}")):
        assert repr(parse(*argv).settings.search.sigma) == "2.0"


def test_the_complete_settings_repeat_the_run(parse, tmp_path, capsys):
    arguments = ["--preset", "cpu", "--search.sigma", "1e-5", "--widths", "[1.5]"]
    with pytest.raises(SystemExit) as exit_:
        parse("--print_config", *arguments)
    assert exit_.value.code == 0
    text = capsys.readouterr().out
    first = parse(*arguments)
    assert yaml.safe_load(text) == first.to_dict()
    assert first.to_dict() == {
        "recipe": "demo",
        "preset": "cpu",
        "seed": 3,
        "widths": [1.5],
        "data_dir": None,
        "flip": True,
        "search": {"rounds": 5, "sigma": 1e-5, "optimizer": "sgd"},
    }
    (tmp_path / "settings.yaml").write_text(text)
    again = parse("--config", str(tmp_path / "settings.yaml"))
    assert again.to_dict() == first.to_dict() and again.run_dir.name.startswith("cpu-20")
    (tmp_path / "bare.yaml").write_text(yaml.safe_dump(settings.to_dict(first.settings)))
    assert parse("--config", str(tmp_path / "bare.yaml")).settings == first.settings


def test_the_run_directory_alone_goes_on_with_its_settings(parse, tmp_path):
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    first = parse("--preset", "cpu", "--seed", "9", "--run_dir", str(run_dir))
    (run_dir / "settings.yaml").write_text(yaml.safe_dump(first.to_dict()))
    assert parse("--run_dir", str(run_dir)) == first
    assert parse("--run_dir", str(run_dir), "--preset", "quick").settings.search.rounds == 4


def test_the_default_run_directory_is_new(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(settings.time, "strftime", lambda _: "20300102-030405")
    first = settings.default_run_dir("demo", "quick")
    assert first == Path("runs/demo/quick-20300102-030405")
    first.mkdir(parents=True)
    assert settings.default_run_dir("demo", "quick").name == "quick-20300102-030405-2"


# Mistakes


@pytest.mark.parametrize(
    ("argv", "texts"),
    [
        ("--search.rouns 3", ["Unknown setting `--search.rouns`", "'--search.rounds'"]),
        ("--rounds 3", ["Unknown setting `--rounds`", "'--search.rounds'"]),
        ("--prest cpu", ["Unknown setting `--prest`", "'--preset'"]),
        ("--zzz 1", ["Unknown setting `--zzz`", "--help"]),
        ("--preset cpuu", ["`--preset` to be one of quick, cpu", "'cpuu'", "Did you mean 'cpu'?"]),
        ("--search.rounds x", ["`--search.rounds` to be an integer", "Received: 'x'"]),
        ("--search.rounds 1.5", ["an integer", "'1.5'"]),
        ("--search.sigma wide", ["`--search.sigma` to be a number", "'wide'"]),
        ("--search.optimizer adm", ["one of 'sgd', 'adam'", "'adm'"]),
        ("--widths [1,b]", ["of which each is a number", "'[1,b]'"]),
        ("--flip maybe", ["true or false", "'maybe'"]),
        ("--search 3", ["group of settings", "--search.rounds"]),
        ("--seed", ["a value after --seed"]),
        ("--seed --flip true", ["a value after --seed"]),
        ("quick", ["--name value", "'quick'"]),
        ("--config none.yaml", ["'none.yaml'", "No such file"]),
        ("--search.rounds 0", ["`search.rounds` to be at least 1", "0"]),
        ("--seed 101 --search.rounds 51", ["seed and rounds together"]),
    ],
)
def test_mistakes_on_the_command_line(parse, argv, texts):
    with pytest.raises(UserError) as error:
        parse(*argv.split())
    assert "\n" not in str(error.value)
    for text in texts:
        assert text in str(error.value)


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        ("search:\n  rouns: 3", ["Unknown setting `search.rouns`", "mine.yaml", "'search.rounds'"]),
        ("rounds: 3", ["`rounds`", "'search.rounds'"]),
        ("seed: a", ["`seed` in", "mine.yaml", "an integer", "'a'"]),
        ("seed: 1.0", ["an integer", "1.0"]),
        ("seed: true", ["an integer", "True"]),
        ("seed:", ["an integer", "None"]),
        ("search: 3", ["`search`", "group of settings", "3"]),
        ("widths: [1, b]", ["each is a number", "'b'"]),
        ("data_dir: 3", ["a text or null", "3"]),
        ("a: [", ["damaged", "not valid YAML in line 1"]),
        ("seed: 1\n\tflip: true", ["damaged", "line 2"]),
        ("- 1", ["damaged", "list"]),
        ("1: 2", ["Unknown setting `1`"]),
        ("recipe: other", ["the recipe demo", "other"]),
        ("preset: cpuu", ["`preset` in", "mine.yaml", "'cpuu'", "'cpu'"]),
    ],
)
def test_mistakes_in_a_file(parse, config, content, texts):
    with pytest.raises(UserError) as error:
        parse(*config(content))
    assert "\n" not in str(error.value)
    for text in texts:
        assert text in str(error.value)


@pytest.mark.parametrize("content", ["", "# nothing\n", "search:\n"])
def test_an_empty_file_changes_nothing(parse, config, content):
    assert parse(*config(content)).settings == parse().settings


def test_a_file_that_is_no_text(parse, tmp_path):
    (tmp_path / "x.yaml").write_bytes(b"\xff\xfe\x00seed")
    with pytest.raises(UserError, match="damaged"):
        parse("--config", str(tmp_path / "x.yaml"))
    with pytest.raises(UserError, match="directory"):
        parse("--config", str(tmp_path))


def test_reserved_names_and_settings_without_default(presets):
    @dataclass
    class Reserved:
        preset: str = ""

    @dataclass
    class Needed:
        seed: int

    for name in presets:
        presets[name].write_text("")
    with pytest.raises(TypeError, match="preset"):
        settings.parse(Reserved, [], program="demo", description="", presets=presets)
    with pytest.raises(UserError, match="`--seed` has no default: give an integer"):
        settings.parse(Needed, [], program="demo", description="", presets=presets)
    assert settings.parse(Needed, ["--seed", "2"], program="demo", description="", presets=presets).settings.seed == 2


@dataclass(frozen=True)
class Renamed(Search):
    """A search whose settings had other names.

    Attributes:
      steps: Updates in a round.
    """

    RENAMED: ClassVar[dict[str, str]] = {"updates": "steps", "binary": "optimizer (true: sgd, false: adam)"}
    steps: int = 10


@pytest.fixture
def parse_made(presets):
    """Settings whose class is made when the program starts, with defaults of its own for an inner dataclass."""
    inner = field(default_factory=lambda: Renamed(rounds=9, steps=2))
    made = make_dataclass(
        "Made", [("seed", int, 0), ("search", Renamed, inner)], namespace={"RENAMED": {"workers": "search.steps"}}
    )
    presets["quick"].write_text("")
    return lambda *argv: settings.parse(made, argv, program="demo", description="", presets=presets)


def test_defaults_of_an_inner_dataclass_are_those_of_its_instance(parse_made, capsys):
    assert parse_made().settings.search == Renamed(rounds=9, steps=2)
    assert parse_made("--search.steps", "5").settings.search == Renamed(rounds=9, steps=5)
    with pytest.raises(SystemExit):
        parse_made("--help")
    text = " ".join(capsys.readouterr().out.split())
    assert "search: A search whose settings had other names:" in text
    assert "--search.steps INTEGER Updates in a round. (default: 2)" in text
    assert "Number of rounds, at least 1. (default: 9)" in text


@pytest.mark.parametrize(
    ("argv", "texts"),
    [
        ("--search.updates 3", ["`--search.updates`", "give `--search.steps`."]),
        ("--search.binary false", ["give `--search.optimizer` (true: sgd, false: adam)."]),
        ("--workers 3", ["`--workers`", "give `--search.steps`."]),
    ],
)
def test_a_renamed_setting_is_refused_with_its_new_name(parse_made, config, argv, texts):
    with pytest.raises(UserError) as error:
        parse_made(*argv.split())
    for text in texts:
        assert text in str(error.value)
    name, value = argv.removeprefix("--").split()
    outer, _, inner = name.rpartition(".")
    with pytest.raises(UserError) as error:
        parse_made(*config(f"{outer}: {{{inner}: {value}}}" if outer else f"{inner}: {value}"))
    assert f"`{name}` in" in str(error.value) and "mine.yaml" in str(error.value)
    assert texts[-1].replace("--", "") in str(error.value)


def test_types_in_words():
    assert type_text(tuple[int, int]) == "a list of 2 values (an integer, an integer)"
    assert type_text(int | Literal["auto"]) == "an integer or one of 'auto'"


# Presets


def test_preset_files_beside_the_package_or_in_the_checkout(tmp_path, monkeypatch):
    package = tmp_path / "tfbnas"
    (package / "recipes").mkdir(parents=True)
    monkeypatch.setattr(settings, "__file__", str(package / "recipes" / "settings.py"))
    with pytest.raises(UserError, match="presets of dms_resnet18"):
        settings.preset_files("dms_resnet18")
    for folder in (tmp_path / "recipes", package / "presets"):
        folder.mkdir()
        for name in ("dms_resnet18_cpu", "dms_resnet18_quick", "dms_resnet18_imagenet_a", "dms_vgg11_quick"):
            (folder / f"{name}.yaml").write_text("recipe: " + "_".join(name.split("_")[:2]))
        found = settings.preset_files("dms_resnet18")
        assert list(found) == ["quick", "cpu", "imagenet_a"]
        assert found["imagenet_a"] == folder / "dms_resnet18_imagenet_a.yaml"


# The program, as a real process

PROGRAM = """
    import sys, time
    from dataclasses import dataclass, field
    from pathlib import Path

    @dataclass
    class Search:
        '''The search.

        Attributes:
          rounds: Number of rounds.
        '''
        rounds: int = 3

    @dataclass
    class Settings:
        '''All.

        Attributes:
          seed: Seed of everything.
          task: What to do.
        '''
        seed: int = 0
        task: str = "nothing"
        search: Search = field(default_factory=Search)

    from tfbnas.errors import UserError
    from tfbnas.recipes import settings
    from tfbnas.run import RunDirectory

    settings.preset_files = lambda recipe: {"quick": Path(sys.argv[0]).parent / "demo_quick.yaml"}

    def main(command):
        assert "tensorflow" not in sys.modules
        with RunDirectory(command.run_dir, command.to_dict()):
            task = command.settings.task
            print("running", flush=True)
            if task == "mistake":
                raise UserError("Expected a budget. Received: -1.")
            if task == "full":
                raise OSError(28, "No space left on device")
            if task == "defect":
                raise RuntimeError("a defect")
            if task == "wait":
                time.sleep(60)

    settings.run_main(main, Settings, recipe="demo", description="A demonstration.")
"""


@pytest.fixture
def program(tmp_path):
    (tmp_path / "demo_quick.yaml").write_text("search: {rounds: 4}\n")
    (tmp_path / "program.py").write_text(textwrap.dedent(PROGRAM))

    def arguments(*argv):
        return [sys.executable, str(tmp_path / "program.py"), *argv]

    return arguments


def run(arguments, tmp_path, **kwargs):
    environment = {**os.environ, "PYTHONPATH": str(Path(settings.__file__).parents[2]), "COLUMNS": "100"}
    return subprocess.run(arguments, cwd=tmp_path, env=environment, capture_output=True, text=True, **kwargs)


def test_help_is_fast_and_explains_every_setting_with_the_presets_default(program, tmp_path):
    begin = time.perf_counter()
    result = run(program("--help"), tmp_path)
    seconds = time.perf_counter() - begin
    assert result.returncode == 0, result.stderr
    text = " ".join(result.stdout.split())
    for expected in (
        "usage: python -m tfbnas.recipes.demo [--preset NAME]",
        "A demonstration.",
        "--seed INTEGER Seed of everything. (default: 0)",
        "search: The search:",
        "--search.rounds INTEGER Number of rounds. (default: 4)",
        "--print_config",
        "one of: quick",
    ):
        assert expected in text
    assert seconds < 3


def test_ends_of_the_program(program, tmp_path):
    done = run(program("--run_dir", "a"), tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "running\n", "")
    mistake = run(program("--task", "mistake"), tmp_path)
    assert (mistake.returncode, mistake.stderr) == (2, "error: Expected a budget. Received: -1.\n")
    full = run(program("--task", "full"), tmp_path)
    assert full.returncode == 2 and full.stderr.startswith("error: The disk is full.")
    unknown = run(program("--sed", "1"), tmp_path)
    assert (unknown.returncode, unknown.stderr) == (2, "error: Unknown setting `--sed`. Did you mean '--seed'?\n")
    other = run(program("--run_dir", "a", "--seed", "2"), tmp_path)
    assert other.returncode == 2 and "seed was 0, now 2" in other.stderr
    defect = run(program("--task", "defect"), tmp_path)
    assert defect.returncode == 1 and "Traceback" in defect.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_and_says_how_to_go_on(program, tmp_path, number):
    """Also where a shell has started it in the background, with SIGINT ignored."""
    environment = {**os.environ, "PYTHONPATH": str(Path(settings.__file__).parents[2])}
    process = subprocess.Popen(
        program("--task", "wait", "--run_dir", "mine"),
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )
    assert process.stdout.readline() == "running\n"
    process.send_signal(number)
    _, text = process.communicate(timeout=20)
    assert process.returncode == 130
    assert text == "Stopped. To go on: python -m tfbnas.recipes.demo --run_dir mine\n"


def test_on_a_terminal_a_message_begins_on_its_own_line(program, tmp_path):
    parent, child = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": str(Path(settings.__file__).parents[2])}
    process = subprocess.Popen(program("--seed", "x"), cwd=tmp_path, env=environment, stderr=child)
    os.close(child)
    assert process.wait(timeout=20) == 2
    assert os.read(parent, 1000).decode() == "\r\nerror: Expected `--seed` to be an integer. Received: 'x'.\r\n"
    os.close(parent)
