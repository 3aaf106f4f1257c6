"""Pretrained weights: loaded safely, without network when they are there, and named truthfully."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torchvision import models

from helpers import efficientnet_b5, resnet18
from helpers.errors import KitError
from helpers.lib import weights
from helpers.lib.weights import IMAGENET, load_state

PUBLISHED = {name: file.path for name, file in IMAGENET.items()}  # before the tests' own cache


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    """An empty cache of weights, and no network."""

    def no_network(*args, **options):
        raise KitError("no network in tests")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(weights, "fetch", no_network)
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def put(content: object, name: str = "resnet18") -> Path:
    path = IMAGENET[name].path
    torch.save(content, path)
    return path


def a_resnet18() -> models.ResNet:
    torch.manual_seed(4)
    return models.resnet18(weights=None)


def test_weights_are_kept_where_torch_keeps_them(cache):
    assert IMAGENET["resnet18"].path == cache / "resnet18-f37072fd.pth"
    assert IMAGENET["efficientnet_b5"].path == cache / "efficientnet-b5-b6417697.pth"
    for file in IMAGENET.values():
        assert file.path.stem.endswith(file.sha256_prefix)


def test_resnet18_loads_what_is_in_the_cache_without_network():
    source = a_resnet18()
    put(source.state_dict())
    model = resnet18(7, pretrained="imagenet")
    assert model.fc.out_features == 7
    for name, value in source.state_dict().items():
        if not name.startswith("fc."):
            assert torch.equal(model.state_dict()[name], value)


def test_missing_weights_need_the_network():
    with pytest.raises(KitError, match="no network in tests"):
        resnet18(7, pretrained="imagenet")


def test_a_file_that_is_not_the_published_one_is_said(capsys, monkeypatch):
    path = put(a_resnet18().state_dict())
    model = resnet18(7, pretrained="imagenet")
    assert "NOT the published file" in model.weights_source
    assert model.weights_source in capsys.readouterr().out
    digest = weights.sha256(path)
    published = weights.WeightFile(IMAGENET["resnet18"].url, digest[:8], 45)
    monkeypatch.setitem(IMAGENET, "resnet18", published)
    model = resnet18(7, pretrained="imagenet")
    assert "ImageNet" in model.weights_source
    assert "NOT" not in model.weights_source


@pytest.mark.parametrize("name", IMAGENET)
def test_published_weights_are_taken_for_published(name, monkeypatch):
    if not PUBLISHED[name].is_file():
        pytest.skip(f"the weights of {name} are not in TORCH_HOME")
    monkeypatch.setenv("TORCH_HOME", str(PUBLISHED[name].parents[2]))
    network = {"resnet18": resnet18, "efficientnet_b5": efficientnet_b5}[name]
    assert PUBLISHED[name].name in network(5, pretrained="imagenet").weights_source


def test_random_weights_are_called_random(capsys):
    model = resnet18(7, pretrained=None)
    assert "random" in model.weights_source
    assert f"resnet18: {model.weights_source}" in capsys.readouterr().out


@pytest.mark.parametrize("network", [resnet18, efficientnet_b5])
@pytest.mark.parametrize("name", ["ImageNet", "yes", ""])
def test_unknown_weights(network, name):
    with pytest.raises(KitError, match=f"unknown weights '{name}': use 'imagenet', 'drawn'"):
        network(7, pretrained=name)


class Malicious:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("wrap", [lambda evil: evil, lambda evil: {"conv1.weight": evil}])
def test_a_file_that_would_run_code_is_refused_and_not_run(tmp_path, wrap):
    trace = tmp_path / "trace"
    path = put(wrap(Malicious(trace)))
    with pytest.raises(KitError, match=f"{path.name} holds more than weights"):
        resnet18(7, pretrained="imagenet")
    assert not trace.exists()
    torch.load(path, weights_only=False)
    assert trace.exists()  # it would have


@pytest.mark.parametrize("kept", [0, 10, 0.3, 0.99])
def test_a_truncated_file_is_named(kept):
    path = put(a_resnet18().state_dict())
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole)) if kept < 1 else kept])
    with pytest.raises(KitError, match=path.name):
        resnet18(7, pretrained="imagenet")


@pytest.mark.parametrize("damage", ["truncated", "malicious", "of another network", "a folder"])
def test_a_damaged_file_is_replaced_by_the_published_one(tmp_path, monkeypatch, capsys, damage):
    source, trace = a_resnet18(), tmp_path / "trace"
    path = put(source.state_dict())
    whole = path.read_bytes()
    published = weights.WeightFile(IMAGENET["resnet18"].url, weights.sha256(path)[:8], 45)
    monkeypatch.setitem(IMAGENET, "resnet18", published)
    if damage == "truncated":
        path.write_bytes(whole[:-1000])
    elif damage == "malicious":
        put({"conv1.weight": Malicious(trace)})
    elif damage == "of another network":
        put({"weight": torch.zeros(3)})
    else:
        path.unlink()
        path.mkdir()

    def fetch(url, place, **options):
        assert (url, place) == (published.url, path)
        if path.is_dir():
            raise KitError(f"cannot write {path}")
        place.write_bytes(whole)

    monkeypatch.setattr(weights, "fetch", fetch)
    if damage == "a folder":
        with pytest.raises(KitError, match=r"is damaged .*; cannot write"):
            resnet18(7, pretrained="imagenet")
        return
    model = resnet18(7, pretrained="imagenet")
    assert torch.equal(model.conv1.weight, source.conv1.weight)
    assert "NOT the published" not in model.weights_source
    assert f"{path.name} cannot be used: fetching it again" in capsys.readouterr().out
    assert not trace.exists()


def test_without_network_a_damaged_file_is_kept_and_told_in_one_line():
    path = put({"weight": torch.zeros(3)})
    before = path.read_bytes()
    with pytest.raises(KitError, match=r"another network.*; no network in tests") as caught:
        resnet18(7, pretrained="imagenet")
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == before


def test_a_published_file_that_does_not_fit_is_not_fetched_again(monkeypatch):
    path = put({"weight": torch.zeros(3)})
    published = weights.WeightFile(IMAGENET["resnet18"].url, weights.sha256(path)[:8], 45)
    monkeypatch.setitem(IMAGENET, "resnet18", published)
    with pytest.raises(KitError, match=r"another network: delete it \([^;]*$"):
        resnet18(7, pretrained="imagenet")


def test_the_command_replaces_what_is_not_published(monkeypatch):
    path = put(a_resnet18().state_dict())
    fetched = []
    monkeypatch.setattr(weights, "fetch", lambda url, place, **options: fetched.append(place))
    assert weights.fetch_weights("resnet18") == path
    assert fetched == [path]
    published = weights.WeightFile(IMAGENET["resnet18"].url, weights.sha256(path)[:8], 45)
    monkeypatch.setitem(IMAGENET, "resnet18", published)
    assert weights.fetch_weights("resnet18") == path
    assert fetched == [path]


@pytest.mark.parametrize(
    "content",
    [{"weight": torch.zeros(3)}, {}, [1, 2], None, torch.zeros(3), {"conv1.weight": "text"}],
)
def test_weights_of_another_network_are_named(content):
    path = put(content)
    with pytest.raises(KitError, match=f"{path.name} .*another network"):
        resnet18(7, pretrained="imagenet")


def test_weights_of_another_width_are_named():
    path = put(models.resnet18(weights=None, num_classes=10).state_dict())
    with pytest.raises(KitError, match="damaged or of another network"):
        load_state(models.resnet18(weights=None), path)


def test_efficientnet_refuses_the_weights_of_resnet18():
    put(a_resnet18().state_dict(), "efficientnet_b5")
    with pytest.raises(KitError, match=r"efficientnet-b5.*another network"):
        efficientnet_b5(7, pretrained="imagenet")
