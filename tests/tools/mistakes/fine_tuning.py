"""Mistakes in the TODOs of both notebooks that fine-tune, 03 and 05."""

from __future__ import annotations

from tools.mistakes.mistake import Mistake


def fine_tuning(head: str) -> list[Mistake]:
    """What goes wrong with weights, a new head called `head`, two groups and the run."""
    return [
        Mistake(
            "head of 1,000 outputs",
            r"in_features, data\.num_classes",
            "in_features, 1000",
            r"1000 outputs for 5 classes: its last layer needs an output for each",
        ),
        Mistake(
            "old head kept",
            rf"model\.{head} = .*",
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
            rf"size mismatch for {head}\.weight",
        ),
        Mistake(
            "backbone frozen",
            r"(model\.load_state_dict\(weights\.state\)\n)",
            r"\1model.requires_grad_(False)\n",
            r"frozen: fine-tuning trains all layers",
        ),
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
            rf"not name\.startswith\(\"{head}\.\"\)",
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
    ]
