"""Methods by name: lazily, and from packages."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from types import ModuleType

import pytest

from erc_graph.errors import ConfigError
from erc_graph.methods import METHODS, registry
from erc_graph.methods.base import Method
from erc_graph.methods.registry import Registry, refuse_other


def test_naming_all_methods_imports_none() -> None:
    code = "import sys; from erc_graph.methods import METHODS; list(METHODS); 'hff' in METHODS; METHODS.classes; " \
        "print([name for name in sys.modules if name == 'torch' or name.startswith('erc_graph.methods.')])"  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "['erc_graph.methods.registry']"


def test_every_home_is_a_method_of_that_name() -> None:
    assert len(METHODS) == len(list(METHODS)) >= 5
    for name, kind in METHODS.items():
        assert issubclass(kind, Method) and METHODS.classes[kind.__name__] == name
    assert "nothing" not in METHODS and "Nothing" not in METHODS.classes
    with pytest.raises(KeyError):
        METHODS["nothing"]


class Offered(Method):
    """A method of a package."""

    @dataclass(frozen=True)
    class Config:
        width: int = 8


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> Registry:
    """A registry, beside a package that offers four methods."""
    module = ModuleType("a_package")
    module.Offered, module.number, module.Other = Offered, 3, dict  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "a_package", module)
    homes = {"own": "a_package:Offered", "number": "a_package:number", "other": "a_package:Other", "gone": "no_such_package:X"}
    found = [EntryPoint(name, home, registry.GROUP) for name, home in {**homes, "bigru": "a_package:Offered"}.items()]
    monkeypatch.setattr(registry, "entry_points", lambda group: found if group == "erc_graph.methods" else [])
    return Registry({"bigru": "erc_graph.methods.bigru:BiGRU"})


def test_packages_offer_methods(package: Registry, caplog: pytest.LogCaptureFixture) -> None:
    assert list(package) == ["bigru", "gone", "number", "other", "own"] and len(package) == 5
    assert package["own"] is Offered and package.classes["Offered"] == "own"
    assert package["bigru"].__name__ == "BiGRU" and "another method has this name" in caplog.text


def test_what_a_package_offers_may_be_no_method(package: Registry) -> None:
    with pytest.raises(ConfigError, match=r"method gone: no_such_package:X of the package .* cannot be imported \(ModuleNotFoundError"):
        package["gone"]
    with pytest.raises(
        ConfigError, match=r"method number: .*expected a subclass of erc_graph\.methods\.base\.Method, found a value of type int"
    ):
        package["number"]
    with pytest.raises(ConfigError, match=r"method other: .*found a class of another kind"):
        package["other"]


def test_a_method_without_a_configuration_is_refused() -> None:
    class Bare(Method):
        pass

    with pytest.raises(ConfigError, match=r"x: expected a dataclass `Config` with the options in the class; found none"):
        refuse_other(Bare, "x")


def test_a_configuration_that_is_no_dataclass_is_named() -> None:
    class Options:
        graph = "speaker"

    class Bare(Method):
        Config = Options

    with pytest.raises(
        ConfigError, match=r"x: expected a dataclass `Config` with the options in the class; found one that is no dataclass: Options"
    ):
        refuse_other(Bare, "x")
