"""What the stage that searches says: where it goes on, and when the result means nothing."""

from __future__ import annotations

import shutil

import pytest

from tfbnas.recipes import runner, searching, stages
from tfbnas.recipes.devices import Devices
from tfbnas.recipes.recipe import Recipe
from tfbnas.recipes.settings import parse, preset_files


@pytest.fixture
def search(command, tmp_path):
    """Function: runs the search stage of a tiny recipe in this process, on from where it is."""

    def run(**settings):
        recipe = Recipe("dms_vgg11")
        small = {"network__family": "test-small", "budget__memory": 0.002}
        argv = command(tmp_path / "run", **small | settings)[3:]
        presets = preset_files(recipe.name)
        known = parse(recipe.settings_class, argv, program=recipe.name, description="", presets=presets)
        images = runner.load_data(known.settings.data)
        template = runner.whole(recipe.method, known.settings, images)
        with runner.open_run(known, recipe.method, images, template, Devices()) as context:
            return searching.search_stage(context)

    return run


def test_a_search_that_goes_on_names_the_round(search, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        begin = stages._Seconds.on_epoch_begin

        def killed(self, epoch, logs=None):
            begin(self, epoch, logs)
            if epoch == 1:
                raise KeyboardInterrupt

        patch.setattr(stages._Seconds, "on_epoch_begin", killed)
        with pytest.raises(KeyboardInterrupt):
            search()
    assert "goes on" not in capsys.readouterr().err.split("run directory")[1].split("\n", 1)[1]
    result = search()
    assert "search: goes on with round 2 of 2" in capsys.readouterr().err.splitlines()
    assert len(result.history) == 2


def test_an_architecture_rate_of_a_million_ends_with_a_warning(search, capsys):
    search(search__architecture_learning_rate=1e6, search__rounds=3)
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("Warning")]
    assert "weighed nothing: in all 3 epochs" in line
    assert "Lower `search.architecture_learning_rate`, which was 1e+06" in line


@pytest.fixture
def begun(command, image_folder, tmp_path, monkeypatch):
    """Function: begins a run or goes on with it, without any stage; exit code."""
    monkeypatch.setattr(runner, "run_stages", lambda context: None)

    def run(*arguments: str) -> int:
        with pytest.raises(SystemExit) as exit_code:
            Recipe("dms_vgg11").main(["--run_dir", str(tmp_path / "run"), *arguments])
        return exit_code.value.code

    shutil.copytree(image_folder, tmp_path / "images")
    monkeypatch.chdir(tmp_path)
    options = command(tmp_path / "run", data__name="images")[5:]
    assert run(*options) == 0
    return run


def test_a_run_goes_on_from_any_directory(begun, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert begun() == 0


@pytest.mark.parametrize("change", ["deleted", "moved", "replaced"])
def test_a_run_goes_on_with_its_own_images_only(begun, tmp_path, capsys, change):
    image = tmp_path / "images" / "train" / "dark" / "3.png"
    content = image.read_bytes()
    if change == "replaced":
        image.write_bytes((tmp_path / "images" / "train" / "light" / "5.png").read_bytes() + b"\0")
    else:
        image.unlink()
    if change == "moved":
        (tmp_path / "images" / "train" / "light" / "99.png").write_bytes(content)
    capsys.readouterr()
    assert begun() == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert "images" in line and ("train" in line or "dark" in line)
