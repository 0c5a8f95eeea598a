"""Settings of network families: what becomes of them in the builder, and families of one's own."""

import inspect

import pytest

from tfbnas import networks
from tfbnas.errors import UserError
from tfbnas.recipes.families import FAMILIES, CnfSettings, FabricSettings, ResNet18Settings, SegmentationSettings


@pytest.mark.parametrize("name", FAMILIES)
def test_every_setting_is_an_argument_of_the_builder_with_the_same_default(name):
    settings = FAMILIES[name]()
    taken = inspect.signature(networks.builder(settings.family)).parameters
    for option, value in settings.builder_options().items():
        assert option in taken, option
        if not settings.segmentation:
            default = taken[option].default
            assert value == (list(default) if isinstance(default, tuple) else default), option
    assert "family" not in settings.builder_options()


@pytest.mark.parametrize("name", FAMILIES)
def test_every_network_to_compare_with_has_a_setting_of_its_own(name):
    settings = FAMILIES[name]()
    if name in ("resnet_fabric", "cnf", "cnf_segmentation", "cifar10"):
        own = set(vars(settings.baselines())) - {"int8"}
        assert set(settings.references()) == own
        assert len({label for label, _ in settings.references().values()}) == len(own)


def test_a_family_of_ones_own_takes_options_alone():
    settings = FabricSettings(family="my_package.my_module:builder", n=5, options={"depth": 3})
    assert settings.builder_options() == {"depth": 3} and settings.unused() == ["n"]
    assert FabricSettings(n=5).unused() == []
    assert ResNet18Settings(options={"base": 32}).builder_options()["base"] == 32
    assert "base" not in ResNet18Settings().builder_options()


@pytest.mark.parametrize(("columns", "plain"), [(8, 4), (2, 2), (3, 2)])
def test_half_a_fabric_that_segments_keeps_two_columns(columns, plain):
    label, options = SegmentationSettings(columns=columns).references()["plain"]
    assert (label, options["columns"], options["segmentation"]) == (f"CNF W={plain}", plain, True)
    assert CnfSettings(columns=3).references()["plain"][1]["columns"] == 1


def test_counts_that_are_not_positive_are_refused():
    for settings in (FabricSettings(n=0), CnfSettings(filters=-1), ResNet18Settings(base=0)):
        with pytest.raises(UserError, match="`network.(n|filters|base)` to be positive"):
            settings.check()


def test_thresholds_of_the_tensors_reach_the_builder_and_the_default_changes_no_architecture():
    for kind in (FabricSettings, CnfSettings, SegmentationSettings):
        assert "thresholds" not in kind().builder_options()
        assert kind(thresholds="tensor").builder_options()["thresholds"] == "tensor"
        assert all(options["thresholds"] == "tensor" for _, options in kind(thresholds="tensor").references().values())
    own = FabricSettings(family="my_package.my_module:builder", options={"thresholds": "edge"})
    assert own.builder_options() == {"thresholds": "edge"}
