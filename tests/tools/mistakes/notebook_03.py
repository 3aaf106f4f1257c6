"""Mistakes in the TODOs of notebook 03."""

from __future__ import annotations

from tools.mistakes.mistake import Mistake

MISTAKES_03 = [
    # Weights and head.
    Mistake(
        "head under another name",
        r"model\.fc = ",
        "model.classifier = ",
        r"new head is not in use, .* classifier\.weight, .*right name",
    ),
    Mistake(
        "head of 1,000 outputs",
        r"in_features, data\.num_classes",
        "in_features, 1000",
        r"1000 outputs for 5 classes: its last layer needs an output for each",
    ),
    Mistake(
        "old head kept",
        r"model\.fc = .*",
        "",
        r"72 outputs for 5 classes: its last layer needs an output for each",
    ),
    Mistake(
        "random weights",
        r"model\.load_state_dict\(weights\.state\)\n",
        "",
        r"random weights: load .* before the head is replaced",
    ),
    Mistake(
        "loaded when the head was replaced",
        r"(model\.load_state_dict\(weights\.state\)\n)(.*)",
        r"\2\1",
        r"size mismatch for fc\.weight",
    ),
    Mistake(
        "backbone frozen",
        r"(model\.load_state_dict\(weights\.state\)\n)",
        r"\1model.requires_grad_(False)\n",
        r"frozen: fine-tuning trains all layers",
    ),
    # Groups and schedule.
    Mistake(
        "groups swapped",
        r"(\[\n)( +\{.*?\},\n)( +\{.*?\},\n)",
        r"\1\3\2",
        r"the head is in the first group",
    ),
    Mistake(
        "head in both groups",
        r"\[p for name, p in .*?\]",
        "list(model.parameters())",
        r"more than one parameter group",
    ),
    Mistake(
        "BatchNorm forgotten",
        r"not name\.startswith\(\"fc\.\"\)",
        '"conv" in name',
        r"tensors are in no group and would not learn: ",
    ),
    Mistake(
        "head alone",
        r"\{\"params\": backbone.*?\},\n",
        "",
        r"max_lr|two groups",
    ),
    Mistake(
        "all in one group",
        r"\[\n.*?\n    \],",
        "model.parameters(),",
        r"max_lr|two groups",
    ),
    Mistake(
        "one rate for all",
        r"\[recipe\.backbone_lr, recipe\.head_lr\]",
        "recipe.head_lr",
        r"the highest rates are .*: give both to OneCycleLR",
    ),
    Mistake(
        "rates swapped",
        r"\[recipe\.backbone_lr, recipe\.head_lr\]",
        "[recipe.head_lr, recipe.backbone_lr]",
        r"the highest rates are .*: give both to OneCycleLR",
    ),
    Mistake(
        "no weight decay",
        r"weight_decay=recipe\.weight_decay",
        "weight_decay=0",
        r"weight_decay of both groups",
    ),
    Mistake(
        "schedule that moves the momentum",
        r" cycle_momentum=False,",
        "",
        r"cycle_momentum=False, or the schedule moves",
    ),
    Mistake(
        "schedule of a step an epoch",
        r"total_steps=recipe\.num_epochs \* len\(data\.train\)",
        "total_steps=recipe.num_epochs",
        r"Tried to step 4 times|a step for each batch",
    ),
    Mistake(
        "no momentum",
        r"momentum=0\.9, ",
        "",
        r"momentum 0\.9",
    ),
    # Loss and training.
    Mistake(
        "no label smoothing",
        r"label_smoothing=recipe\.label_smoothing",
        "",
        r"label_smoothing of the loss",
    ),
    Mistake(
        "an epoch fewer",
        r"num_epochs=recipe\.num_epochs,",
        "num_epochs=recipe.num_epochs - 1,",
        r"a schedule must be as long as its run",
    ),
    Mistake(
        "another network than the optimizer's",
        r"train_model\(\n    model",
        "train_model(\n    torchvision.models.resnet18(num_classes=data.num_classes)",
        r"belong to another network",
    ),
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
