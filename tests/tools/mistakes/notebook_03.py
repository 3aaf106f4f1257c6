"""Mistakes in the TODOs of notebook 03."""

from __future__ import annotations

from tools.mistakes.fine_tuning import fine_tuning
from tools.mistakes.mistake import Mistake

MISTAKES_03 = [
    Mistake(
        "head under another name",
        r"model\.fc = ",
        "model.classifier = ",
        r"new head is not in use, .* classifier\.weight, .*right name",
    ),
    Mistake(
        "no momentum",
        r"momentum=0\.9, ",
        "",
        r"momentum 0\.9",
    ),
    Mistake(
        "another network than the optimizer's",
        r"train_model\(\n    model",
        "train_model(\n    torchvision.models.resnet18(num_classes=data.num_classes)",
        r"belong to another network",
    ),
    *fine_tuning("fc"),
]

# Other right ways: the place of the TODO in the notebook, and what a student writes there.
RIGHT_03 = [
    (
        0,
        """
model = torchvision.models.resnet18(num_classes=data.num_classes)
backbone = {name: value for name, value in weights.state.items() if name[:2] != "fc"}
model.load_state_dict(backbone, strict=False)
""",
    ),
    (
        0,
        """
model = torchvision.models.resnet18(num_classes=weights.num_classes)
model.load_state_dict(weights.state)
model.fc = nn.Sequential(nn.Linear(512, 64), nn.ReLU(), nn.Linear(64, data.num_classes))
""",
    ),
    (
        1,
        """
head = set(model.fc.parameters())
optimizer = torch.optim.SGD(
    (p for p in model.parameters() if p not in head), lr=recipe.backbone_lr, momentum=0.9,
    weight_decay=recipe.weight_decay,
)
optimizer.add_param_group({"params": list(head), "lr": recipe.head_lr})
scheduler = torch.optim.lr_scheduler.OneCycleLR(
    optimizer, max_lr=[recipe.backbone_lr, recipe.head_lr], epochs=recipe.num_epochs,
    steps_per_epoch=len(data.train), pct_start=recipe.warmup, cycle_momentum=False,
)
""",
    ),
    (
        1,
        """
named = [(name, p) for name, p in model.named_parameters() if "fc" not in name]
optimizer = torch.optim.SGD(
    [{"params": named}, {"params": model.fc.named_parameters()}], lr=recipe.backbone_lr,
    momentum=0.9, weight_decay=recipe.weight_decay,
)
scheduler = torch.optim.lr_scheduler.OneCycleLR(
    optimizer, max_lr=[recipe.backbone_lr, recipe.head_lr], epochs=recipe.num_epochs,
    steps_per_epoch=len(data.train), pct_start=recipe.warmup, cycle_momentum=False,
)
""",
    ),
]
