"""Pretrained weights: loaded safely, without network when they are there, and named truthfully."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torchvision import models

from helpers.errors import KitError
from helpers.lib.files import sha256
from helpers.lib.weights import (
    FOR_EXTENSIONS,
    HEADS,
    IMAGENET,
    WeightFile,
    pretrained_weights,
    published_file,
    read_state,
)
from tools.server import Server, running_server

FILES = IMAGENET | FOR_EXTENSIONS
PUBLISHED = {name: file.path for name, file in FILES.items()}  # before the tests' own cache


@pytest.fixture(autouse=True)
def server(tmp_path, monkeypatch) -> Iterator[Server]:
    """An empty cache of weights, and a server in the place of the network, without any."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("pooch.core.time.sleep", lambda seconds: None)
    with running_server() as server:
        monkeypatch.setenv("KIT_MIRROR", server.url)
        for name in FILES:
            publish(name, "0" * 8, monkeypatch)
        (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
        yield server


def publish(name: str, digest: str, monkeypatch) -> WeightFile:
    """Let that file be the published one of a network."""
    url = f"http://no-such-host.invalid/{name}.pth"
    table = IMAGENET if name in IMAGENET else FOR_EXTENSIONS
    monkeypatch.setitem(table, name, WeightFile(url, digest, 45))
    return table[name]


def put(content: object, name: str = "resnet18") -> Path:
    path = published_file(name).path
    torch.save(content, path)
    return path


@pytest.fixture(scope="module")
def source() -> models.ResNet:
    torch.manual_seed(4)
    return models.resnet18(weights=None)


@pytest.mark.parametrize("is_published", [True, False])
def test_what_is_in_the_cache_is_loaded_and_named(
    server, source, capsys, monkeypatch, is_published
):
    path = put(source.state_dict())
    if is_published:
        publish("resnet18", sha256(path)[:8], monkeypatch)
    weights = pretrained_weights("resnet18", "imagenet")
    assert weights.num_classes == 1000
    assert all(
        torch.equal(weights.state[name], value) for name, value in source.state_dict().items()
    )
    assert "ImageNet" in weights.source
    assert ("NOT the published file" in weights.source) == (not is_published)
    assert f"weights of resnet18: {weights.source}" in capsys.readouterr().out
    assert server.names == []


def test_missing_weights_are_fetched_or_told_in_one_line(server, source, tmp_path, monkeypatch):
    with pytest.raises(KitError, match=r"cannot download .*save it as") as caught:
        pretrained_weights("resnet18", "imagenet")
    assert "\n" not in str(caught.value)
    torch.save(source.state_dict(), tmp_path / "made.pth")
    publish("resnet18", sha256(tmp_path / "made.pth")[:8], monkeypatch)
    server.files["resnet18.pth"] = (tmp_path / "made.pth").read_bytes()
    assert pretrained_weights("resnet18", "imagenet").kind == "ImageNet"
    assert IMAGENET["resnet18"].is_published()


def test_weights_of_an_extension_are_fetched_only_when_it_asks(server, tmp_path, monkeypatch):
    source = models.convnext_tiny(num_classes=7)
    torch.save(source.state_dict(), tmp_path / "made.pth")
    publish("convnext_tiny", sha256(tmp_path / "made.pth")[:8], monkeypatch)
    server.files["convnext_tiny.pth"] = (tmp_path / "made.pth").read_bytes()
    weights = pretrained_weights("convnext_tiny", "imagenet")
    assert (weights.kind, weights.num_classes) == ("ImageNet", 7)
    source.load_state_dict(weights.state)
    assert server.names == ["convnext_tiny.pth"] and "convnext_tiny" not in IMAGENET
    with pytest.raises(KitError, match="no drawn weights of 'convnext_tiny': there are those of"):
        pretrained_weights("convnext_tiny", "drawn")


@pytest.mark.parametrize("name", FILES)
def test_a_published_file_is_named_after_its_hash(name):
    assert PUBLISHED[name].stem.endswith(f"-{FILES[name].sha256_prefix}")


@pytest.mark.parametrize("name", FILES)
def test_the_published_weights_are_known_as_such(name, monkeypatch):
    if not PUBLISHED[name].is_file():
        pytest.skip(f"the weights of {name} are not in TORCH_HOME")
    monkeypatch.undo()
    monkeypatch.setenv("TORCH_HOME", str(PUBLISHED[name].parents[2]))
    assert PUBLISHED[name].name in pretrained_weights(name, "imagenet").source


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("origin", ["ImageNet", ""])
def test_unknown_weights(name, origin):
    with pytest.raises(KitError, match=f"unknown weights '{origin}': use 'imagenet' or 'drawn'"):
        pretrained_weights(name, origin)
    with pytest.raises(KitError, match="no weights of 'vgg': there are those of resnet18, eff"):
        pretrained_weights("vgg", "drawn")


# Files that cannot be used


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
        pretrained_weights("resnet18", "imagenet")
    assert not trace.exists()
    torch.load(path, weights_only=False)
    assert trace.exists()  # it would have


@pytest.mark.parametrize("kept", [0, 0.3, 0.99])
def test_a_truncated_file_is_named(source, kept):
    path = put(source.state_dict())
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(KitError, match=path.name):
        pretrained_weights("resnet18", "imagenet")


@pytest.mark.parametrize("damage", ["truncated", "malicious", "of another network"])
def test_a_damaged_file_is_replaced_by_the_published_one(
    server, source, tmp_path, monkeypatch, capsys, damage
):
    path = put(source.state_dict())
    whole = path.read_bytes()
    publish("resnet18", sha256(path)[:8], monkeypatch)
    server.files["resnet18.pth"] = whole
    if damage == "truncated":
        path.write_bytes(whole[:-1000])
    elif damage == "malicious":
        put({"conv1.weight": Malicious(tmp_path / "trace")})
    else:
        put({"weight": torch.zeros(3)})
    weights = pretrained_weights("resnet18", "imagenet")
    assert torch.equal(weights.state["conv1.weight"], source.conv1.weight)
    assert "NOT the published" not in weights.source
    assert f"{path.name} cannot be used: fetching it again" in capsys.readouterr().out
    assert not (tmp_path / "trace").exists()


def test_without_network_a_damaged_file_is_kept_and_told_in_one_line():
    path = put({"weight": torch.zeros(3)})
    before = path.read_bytes()
    with pytest.raises(KitError, match=r"another network.*; cannot download") as caught:
        pretrained_weights("resnet18", "imagenet")
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == before


def test_a_published_file_that_does_not_fit_is_not_fetched_again(server, monkeypatch):
    path = put({"weight": torch.zeros(3)})
    publish("resnet18", sha256(path)[:8], monkeypatch)
    with pytest.raises(KitError, match=r"another network: delete it \([^;]*$"):
        pretrained_weights("resnet18", "imagenet")
    assert server.names == [] and path.is_file()


@pytest.mark.parametrize(
    "content", [{"weight": torch.zeros(3)}, {}, [1, 2], None, {"conv1.weight": "text"}]
)
def test_weights_of_another_network_are_named(tmp_path, content):
    torch.save(content, tmp_path / "some.pth")
    with pytest.raises(KitError, match=r"some.pth .*damaged or of another network"):
        read_state(tmp_path / "some.pth", "fc")
