"""Mistakes in the TODOs of notebook 05."""

from __future__ import annotations

from tools.mistakes.fine_tuning import fine_tuning
from tools.mistakes.mistake import Mistake

MISTAKES_05 = [
    Mistake(
        "head under another name",
        r"model\._fc = ",
        "model.fc = ",
        r"new head is not in use, .* fc\.weight, .*right name",
    ),
    Mistake(
        "Adam",
        r"optim\.AdamW",
        "optim.Adam",
        r"the recipe asks for AdamW",
    ),
    *fine_tuning("_fc"),
]

# Other right ways: the place of the TODO in the notebook, and what a student writes there.
RIGHT_05 = [
    (
        0,
        """
model = EfficientNet.from_name("efficientnet-b5", num_classes=data.num_classes)
backbone = {name: value for name, value in weights.state.items() if name[:3] != "_fc"}
model.load_state_dict(backbone, strict=False)
""",
    ),
    (
        1,
        """
optimizer = torch.optim.AdamW(
    [
        {"params": [p for name, p in model.named_parameters() if "_fc" not in name]},
        {"params": list(model._fc.parameters())},
    ],
    lr=recipe.head_lr, weight_decay=recipe.weight_decay,
)
scheduler = torch.optim.lr_scheduler.OneCycleLR(
    optimizer, max_lr=[recipe.backbone_lr, recipe.head_lr], epochs=recipe.num_epochs,
    steps_per_epoch=len(data.train), pct_start=recipe.warmup, cycle_momentum=False,
)
""",
    ),
]
