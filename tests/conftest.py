"""What the tests share: a workspace, a tiny data set, and a tiny network."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import helpers
from coursekit.train.networks import bn_cnn
from helpers.data import Data
from helpers.recipes import Augmentation
from helpers.workspace import Workspace
from tools.tiny import write_class_folders

torch.set_num_threads(1)  # the networks are tiny: threads would only wait for each other

# What `load_data` wants to know, for pictures of 16 pixels.
TINY = {"size": 16, "batch_size": 8, "augment": Augmentation(smallest_crop=0.5, flip=0.5)}


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.setenv("KIT_RESULTS", str(tmp_path / "results"))
    return helpers.start(profile="mini", device="cpu")


@pytest.fixture(scope="session")
def picture_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three class folders of 20 pictures each: 12 train, 4 val and 4 test pictures a class."""
    return write_class_folders(
        tmp_path_factory.mktemp("pictures"), {"blue": 20, "green": 20, "red": 20}
    )


@pytest.fixture
def data(picture_folder: Path, workspace: Workspace) -> Data:
    """Pictures of 16 pixels in three classes that are easy to tell apart."""
    return helpers.load_data(workspace, TINY, dataset=picture_folder)


@pytest.fixture
def cnn() -> torch.nn.Sequential:
    """A network for `data`, always with the same first weights."""
    torch.manual_seed(0)
    return bn_cnn(3, widths=(8, 16))
