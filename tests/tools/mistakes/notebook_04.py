"""Mistakes in the TODOs of notebook 04."""

from __future__ import annotations

from tools.mistakes.mistake import Mistake

FREEZING = r"model\.requires_grad_\(False\)\nmodel\.eval\(\)\n(model\.fc = [^\n]*)\n"
MISTAKES_04 = [
    Mistake(
        "head frozen, too",
        FREEZING,
        r"\1\nmodel.requires_grad_(False)\nmodel.eval()\n",
        r"head is frozen, too",
    ),
    Mistake(
        "only the bias of the head learns",
        FREEZING,
        r"\1\nmodel.requires_grad_(False).eval()\nmodel.fc.bias.requires_grad_(True)\n",
        r"fc\.weight: this part of the head is frozen, too",
    ),
    Mistake(
        "gradients switched off as an attribute",
        r"model\.requires_grad_\(False\)",
        "model.requires_grad = False",
        r"60 parameters besides the head .* with its underscore",
    ),
    Mistake(
        "no_grad instead of freezing",
        FREEZING,
        r"with torch.no_grad():\n    model.eval()\n    \1\n",
        r"60 parameters besides the head .*no_grad\(\)` changes no parameter",
    ),
    Mistake(
        "only eval mode",
        r"model\.requires_grad_\(False\)\n",
        "",
        r"60 parameters besides the head still have gradients",
    ),
    Mistake(
        "a layer of the backbone left out",
        r"model\.eval\(\)\n",
        "model.eval()\nmodel.layer4.requires_grad_(True)\n",
        r"15 parameters besides the head still have gradients",
    ),
    Mistake(
        "only gradients off",
        r"model\.eval\(\)\n",
        "",
        r"20 BatchNorm layers are in train mode",
    ),
    Mistake(
        "eval mode undone",
        r"(model\.fc = [^\n]*)\n",
        r"\1\nmodel.train()\n",
        r"20 BatchNorm layers are in train mode",
    ),
    Mistake(
        "head under another name",
        r"model\.fc = ",
        "model.head = ",
        r"72 outputs for 5 classes: its new head is not in use",
    ),
    Mistake(
        "head in place",
        r"backbone\.fc = nn\.Identity\(\)\n",
        "",
        r"\(\d+, 5\) instead of \(\d+, 512\): .*nn\.Identity\(\)",
    ),
    Mistake(
        "the network itself beheaded",
        r"backbone\.fc = nn\.Identity\(\)\n",
        "model.fc = backbone.fc = nn.Identity()\n",
        r"the head of `model` is gone",
    ),
    Mistake(
        "the last batch alone",
        r"torch\.cat\(batches\)",
        "batches[-1]",
        r"\(\d+, 512\) instead of \(\d+, 512\): .* torch\.cat",
    ),
    Mistake(
        "features in train mode",
        r"backbone\.eval\(\)",
        "backbone.train()",
        r"is BatchNorm in train mode",
    ),
    Mistake(
        "features of other pictures",
        r"in data\.val",
        "in data.train",
        r"other pictures, or in another order",
    ),
    Mistake(
        "gradients kept for features",
        r"backbone\.eval\(\)\n(.*)with torch\.inference_mode\(\):",
        r"backbone.eval().requires_grad_(True)\n\1if True:",
        r"gradients were kept",
    ),
    Mistake(
        "all parameters to the optimizer",
        r"model\.fc\.parameters\(\), lr",
        "model.parameters(), lr",
        r"62 parameters instead of the 2 of the head",
    ),
    Mistake(
        "no momentum",
        r"momentum=0\.9, ",
        "",
        r"momentum is \{0\}, not 0\.9",
    ),
    Mistake(
        "no weight decay",
        r", weight_decay=recipe\.weight_decay",
        "",
        r"weight_decay is \{0\}, not 0\.001",
    ),
    Mistake(
        "a rate of its own",
        r"lr=recipe\.head_lr",
        "lr=0.3",
        r"lr is \{0\.3\}, not 0\.01",
    ),
    Mistake(
        "Adam",
        r"optim\.SGD\(\n    model\.fc\.parameters\(\), lr=recipe\.head_lr, momentum=0\.9",
        "optim.Adam(\n    model.fc.parameters(), lr=recipe.head_lr",
        r"Adam is not SGD",
    ),
]

# Other right ways: the place of the TODO in the notebook, and what a student writes there.
RIGHT_04 = [
    (
        0,
        """
model.fc = nn.Linear(512, data.num_classes)
for name, parameter in model.named_parameters():
    parameter.requires_grad = name.startswith("fc")
model.eval()
""",
    ),
    (
        0,
        """
for parameter in model.parameters():
    parameter.requires_grad = False
model.fc = nn.Sequential(nn.Linear(512, 64), nn.ReLU(), nn.Linear(64, data.num_classes))
for layer in model.modules():
    if isinstance(layer, nn.BatchNorm2d):
        layer.eval()
""",
    ),
    (
        0,
        """
model.fc = nn.Linear(512, data.num_classes)
freeze(model, keep="fc")
""",
    ),
    (
        1,
        """
backbone = nn.Sequential(*list(backbone.children())[:-1], nn.Flatten()).eval()
with torch.no_grad():
    vectors = torch.cat([backbone(images.to(workspace.device)) for images, _ in data.val])
""",
    ),
    (
        1,
        """
caught = []
backbone.fc.register_forward_hook(lambda _, inputs, output: caught.append(inputs[0].detach()))
backbone.eval()
for images, _ in data.val:
    backbone(images.to(workspace.device))
vectors = torch.cat(caught).cpu()
""",
    ),
    (
        2,
        """
trained = [p for p in model.parameters() if p.requires_grad]
optimizer = torch.optim.SGD(trained, recipe.head_lr, 0.9, weight_decay=recipe.weight_decay)
""",
    ),
    (
        2,
        """
groups = [{"params": [parameter]} for parameter in model.fc.parameters()]
optimizer = torch.optim.SGD(
    groups, lr=recipe.head_lr, momentum=0.9, nesterov=True, weight_decay=recipe.weight_decay
)
""",
    ),
]
