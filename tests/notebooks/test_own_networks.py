"""Networks of a student's own design: through notebook 02, 06, the report, handing in and grading.

The quick run takes one of them, `pytest -m slow tests/notebooks/test_own_networks.py` the others.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from coursekit import notebooks
from coursekit.grading.grade import grade_class
from coursekit.handin.submit import submit
from coursekit.notebooks import notebook_paths, read_notebook, shown_text
from coursekit.questions import BEGIN, END
from coursekit.run.runner import run_notebooks
from helpers.lib.files import read_json, write_text

STUDENT = "s1234567"
# A few steps and epochs are enough to see whether it runs.
SHORTER = {
    r'recipe = (get_recipe\("bn_cnn".*?\))': r'recipe = __import__("dataclasses").replace(\1, '
    r"num_epochs=3)",
    r"steps = 1e-5, 1\.0, 80": "steps = 1e-5, 1.0, 12",
    r"num_epochs, best = 10": "num_epochs, best = 2",
    r"workspace = start\(\)": f'workspace = start(student="{STUDENT}")',
}
NETWORKS = {
    "tiny": """
class CNN(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=4), nn.BatchNorm2d(8), nn.ReLU(inplace=True),
            nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(8, num_classes),
        )

    def forward(self, x):
        return self.net(x)
""",
    "residual": """
class Block(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(inputs), nn.BatchNorm2d(outputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride=2)

    def forward(self, x):
        y = self.conv1(torch.relu(self.norm1(x)))
        return self.conv2(torch.relu(self.norm2(y))) + self.shortcut(x)


class CNN(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.blocks = nn.ModuleList([Block(16, 32), Block(32, 64), Block(64, 128)])
        self.dropout = nn.Dropout(recipe.dropout)
        self.fc = nn.Linear(128, num_classes)

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.fc(self.dropout(x.mean(dim=(2, 3))))
""",
    "GroupNorm in addition": """
class CNN(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 32, 5, stride=2), nn.GroupNorm(8, 32), nn.GELU())
        self.second = nn.Sequential(nn.Conv2d(32, 64, 3), nn.BatchNorm2d(64), nn.SiLU())
        self.head = nn.Linear(64, num_classes)

    def forward(self, x):
        return self.head(self.second(self.first(x)).amax(dim=(2, 3)))
""",
    "wide": """
class CNN(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 256, 7, stride=4, padding=3, bias=False)
        self.conv2 = nn.Conv2d(256, 384, 3, stride=2, padding=1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(256), nn.BatchNorm2d(384)
        self.drop, self.fc = nn.Dropout2d(recipe.dropout), nn.Linear(384, num_classes)

    def forward(self, x):
        x = nn.functional.relu(self.bn1(self.conv1(x)))
        x = self.drop(nn.functional.relu(self.bn2(self.conv2(x))))
        return self.fc(nn.functional.adaptive_avg_pool2d(x, 1).squeeze(-1).squeeze(-1))
""",
    "right at 64 pixels alone": """
class CNN(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 16, 3, stride=2, padding=1), nn.BatchNorm2d(16)
        self.pool, self.fc = nn.MaxPool2d(4), nn.Linear(16 * 8 * 8, num_classes)

    def forward(self, x):
        x = self.pool(torch.relu(self.bn(self.conv(x))))
        return self.fc(x.view(x.size(0), -1))
""",
}
QUICK = "tiny"


def write_notebooks(folder: Path, cnn: str) -> None:
    """All six; in 02 the student's own network stands in the place of ours."""
    for stem, path in notebook_paths().items():
        text = read_notebook(path)
        for cell in text.cells if stem.startswith("02") else ():
            if "class CNN" in cell.source and BEGIN in cell.source:
                begin, end = cell.source.index(BEGIN), cell.source.index(END) + len(END)
                cell.source = cell.source[:begin] + cnn.strip() + cell.source[end:]
            for old, new in SHORTER.items():
                cell.source = re.sub(old, new, cell.source)
        write_text(folder / path.name, notebooks.v4.writes(text))


@pytest.mark.parametrize(
    "name",
    [name if name == QUICK else pytest.param(name, marks=pytest.mark.slow) for name in NETWORKS],
)
def test_an_own_network_goes_all_the_way(name, tmp_path, monkeypatch, picture_folder, capsys):
    desk, results = tmp_path / "notebooks", tmp_path / "results"
    write_notebooks(desk, NETWORKS[name])
    monkeypatch.setattr(notebooks, "NOTEBOOK_FOLDER", desk)
    monkeypatch.setenv("KIT_RESULTS", str(results))
    monkeypatch.setenv("KIT_PROFILE", "mini")
    monkeypatch.setenv("KIT_DATASET", str(picture_folder))
    report = run_notebooks(names=["02", "06"], profile="mini", save_notebooks=True)

    record = read_json(results / "mini" / "bn_cnn" / "record.json")
    assert record["epochs"] == 3 and record["parameters"]["total"] <= 1_000_000
    assert "network.pt2" in record["files"] and record["weights"]["kind"] == "random"
    said = shown_text(read_notebook(desk / "06_comparison.ipynb"))
    assert "BN-CNN" in said and "left out" not in said
    assert re.search(rf"sees\s+64 pixels, looks with {re.escape(record['cam_layer'])}", said)
    assert f"{record['test']['accuracy']:.1%}" in report.read_text(encoding="utf-8")

    capsys.readouterr()
    assert submit(anyway=True, out=tmp_path / "in") == 0
    assert "notebook 02" not in capsys.readouterr().out  # nothing is missing there
    (grade,) = grade_class(tmp_path / "in", tmp_path / "grades", workers=1)
    # Nobody wrote answers, and the other notebooks are as they were handed out.
    about = [flag.text for flag in grade.flags if flag.kind != "same answers" and "02" in flag.text]
    assert (grade.student, about) == (STUDENT, [])
    assert grade.runs["bn_cnn"].accuracy == pytest.approx(record["test"]["accuracy"])
