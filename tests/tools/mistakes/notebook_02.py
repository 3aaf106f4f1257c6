"""Mistakes in the TODOs of notebook 02, and other right ways to write them."""

from __future__ import annotations

from tools.mistakes.mistake import Mistake

MISTAKES_02 = [
    # The network.
    Mistake(
        "softmax at the end",
        r"return self\.head\(self\.dropout\(means\)\)",
        "return self.head(self.dropout(means)).softmax(dim=1)",
        r"a softmax at the end: return the logits",
    ),
    Mistake(
        "log-softmax at the end",
        r"return self\.head\(self\.dropout\(means\)\)",
        "return self.head(self.dropout(means)).log_softmax(dim=1)",
        r"a softmax at the end: return the logits",
    ),
    Mistake(
        "ReLU at the end",
        r"return self\.head\(self\.dropout\(means\)\)",
        "return torch.relu(self.head(self.dropout(means)))",
        r"exactly 0: no ReLU or dropout after the last layer",
    ),
    Mistake(
        "no BatchNorm",
        r"nn\.BatchNorm2d\(width_out\), ",
        "",
        r"no nn\.BatchNorm2d: make it in __init__",
    ),
    Mistake(
        "layers in a plain list",
        r"self\.blocks = nn\.Sequential\(\*blocks\)(.*)maps = self\.blocks\(images\)",
        r"self.blocks = blocks\1maps = images\n        for block in self.blocks:\n"
        r"            maps = block(maps)",
        r"no nn\.BatchNorm2d: .* not in a plain list",
    ),
    Mistake(
        "positions instead of their average",
        r"means = self\.average\(maps\)\.flatten\(1\)",
        "means = maps.mean(dim=1).flatten(1)",
        r"cannot be multiplied",
    ),
    Mistake(
        "batch lost in a view",
        r"means = self\.average\(maps\)\.flatten\(1\)",
        "means = maps.permute(0, 2, 3, 1).reshape(-1, 256)",
        r"not \(batch, classes\) = .*keep the batch",
    ),
    Mistake(
        "one class too many",
        r"nn\.Linear\(width_out, num_classes\)",
        "nn.Linear(width_out, num_classes + 1)",
        r"not \(batch, classes\) = .*`num_classes` outputs",
    ),
    Mistake(
        "mean over the batch",
        r"means = self\.average\(maps\)\.flatten\(1\)",
        "means = self.average(maps).flatten(1) - self.average(maps).flatten(1).mean(dim=0)",
        r"depend on the others of its batch",
    ),
    Mistake(
        "a layer that is not used",
        r"super\(\)\.__init__\(\)",
        "super().__init__()\n        self.spare = nn.Linear(256, num_classes)",
        r"no gradient reaches spare\.weight, spare\.bias",
    ),
    Mistake(
        "too many parameters",
        r"\(128, 256\)\]",
        "(128, 256), (256, 512)]",
        r"1,5\d\d,\d+ parameters: average over positions",
    ),
    # BatchNorm by hand.
    Mistake(
        "mean over the batch alone",
        r"mean = maps\.mean\(dim=\(0, 2, 3\)\)",
        "mean = maps.mean(dim=0).mean(dim=(1, 2)).roll(1)",
        r"train mode is another than PyTorch's: mean and variance over dim",
    ),
    Mistake(
        "variance by n - 1",
        r", correction=0",
        "",
        r"train mode is another .*correction=0",
    ),
    Mistake(
        "eps forgotten",
        r"variance \+ layer\.eps",
        "variance",
        r"train mode is another .*add eps",
    ),
    Mistake(
        "weight and bias forgotten",
        r"return layer\.weight\[:, None, None\] \* scaled \+ layer\.bias\[:, None, None\]",
        "return scaled",
        r"train mode is another .*weight and bias",
    ),
    Mistake(
        "the batch's statistics in eval mode",
        r"if layer\.training:",
        "if True:",
        r"eval mode is another than PyTorch's: the running mean and variance",
    ),
    # Loss, optimizer, schedule.
    Mistake(
        "other smoothing",
        r"label_smoothing=recipe\.label_smoothing",
        "label_smoothing=0.3",
        r"label_smoothing is the recipe's",
    ),
    Mistake("Adam", r"optim\.AdamW", "optim.Adam", r"the recipe says AdamW"),
    Mistake(
        "no decay",
        r"weight_decay=recipe\.weight_decay",
        "weight_decay=0",
        r"weight_decay is the recipe's",
    ),
    Mistake(
        "schedule of one step an epoch",
        r"total_steps=num_epochs \* len\(data\.train\)",
        "total_steps=num_epochs + 20",
        r"the schedule has \d+ steps, the run has 3 epochs of 4 batches",
    ),
    Mistake(
        "two tensors only",
        r"AdamW\(model\.parameters\(\)",
        "AdamW(list(model.parameters())[:2]",
        r"model\.parameters\(\): all of them",
    ),
    Mistake(
        "another rate",
        r"optimizer, rate, total_steps",
        "optimizer, 10 * rate, total_steps",
        r"the schedule rises to `rate`",
    ),
    Mistake(
        "momentum cycles",
        r"\n +cycle_momentum=False,",
        "",
        r"cycle_momentum=False: momentum stays",
    ),
    # The loop.
    Mistake(
        "gradients never zeroed",
        r"        optimizer\.zero_grad\(\)\n",
        "",
        r"losses part at batch [345]: .*optimizer\.zero_grad\(\), then",
    ),
    Mistake(
        "gradients zeroed before the step",
        r"(        optimizer\.zero_grad\(\)\n)(.*loss\.backward\(\)\n)",
        r"\2\1",
        r"losses part at batch 2: .*in this order",
    ),
    Mistake("no step", r"        optimizer\.step\(\)\n", "", r"losses part at batch 2: "),
    Mistake("no backward", r"        loss\.backward\(\)\n", "", r"losses part at batch 2: "),
    Mistake(
        "eval mode",
        r"    model\.train\(\)\n",
        "",
        r"first loss is another before any step: call model\.train\(\)",
    ),
    Mistake(
        "softmax before the loss",
        r"criterion\(logits, labels\)",
        "criterion(logits.softmax(dim=1), labels)",
        r"first loss is another before any step: .*no softmax",
    ),
    Mistake(
        "schedule left alone",
        r"        scheduler\.step\(\)\n",
        "",
        r"the schedule took 0 steps in 4 batches: one for each",
    ),
    Mistake(
        "schedule once an epoch",
        r"        scheduler\.step\(\)\n(.*)    return",
        r"\1    scheduler.step()\n    return",
        r"the schedule took 1 steps in 4 batches: one for each",
    ),
    Mistake("tensors returned", r"loss\.item\(\)", "loss.detach()", r"return a list of numbers"),
    Mistake(
        "returns too early", r"\n    return losses", "\n        return losses", r"1 losses for 4"
    ),
    # The run.
    Mistake(
        "one epoch",
        r"num_epochs=recipe\.num_epochs,\n",
        "num_epochs=1,\n",
        r"the schedule is 12 steps long, but the run is 4",
    ),
    Mistake(
        "another number of epochs",
        r"recipe\.num_epochs",
        "5",
        r"5 epochs, the recipe has 3",
    ),
    Mistake(
        "no checkpoint",
        r"\n +checkpoint=workspace[^\n]*",
        "",
        r"no checkpoint: an interrupted run would be lost",
    ),
]

RESIDUAL = """
class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, maps):
        return torch.relu(maps + self.norm(self.conv(maps)))


class CNN(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 32, 3, stride=2, padding=1), nn.BatchNorm2d(32))
        self.blocks = nn.ModuleList([Block(32) for _ in range(2)])
        self.drop = nn.Dropout(recipe.dropout)
        self.fc = nn.Linear(32, num_classes)

    def forward(self, images):
        maps = self.stem(images)
        for block in self.blocks:
            maps = nn.functional.max_pool2d(block(maps), 2)
        return self.fc(self.drop(maps.mean((2, 3))))
"""
FIXED_SIZE = """
class CNN(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 16, 5, stride=2, padding=2), nn.BatchNorm2d(16)
        self.fc = nn.Linear(16 * (data.size // 8) ** 2, num_classes)

    def forward(self, images):
        maps = nn.functional.max_pool2d(self.norm(self.conv(images)).relu(), 4)
        return self.fc(maps.view(maps.size(0), -1))
"""
FUNCTIONAL_BATCH_NORM = """
def batch_norm(maps, layer):
    mean, var = layer.running_mean, layer.running_var
    if layer.training:
        columns = maps.transpose(0, 1).flatten(1)
        mean, var = columns.mean(1), columns.var(1, unbiased=False)
    gain = layer.weight * torch.rsqrt(var + layer.eps)
    return maps * gain.view(1, -1, 1, 1) + (layer.bias - mean * gain).view(1, -1, 1, 1)
"""
VAR_MEAN = """
def batch_norm(maps, layer):
    variance, mean = layer.running_var, layer.running_mean
    if layer.training:
        variance, mean = torch.var_mean(maps, (0, 2, 3), correction=0)
    shape = (1, -1, 1, 1)
    maps = (maps - mean.reshape(shape)) / torch.sqrt(variance.reshape(shape) + layer.eps)
    return maps * layer.weight.reshape(shape) + layer.bias.reshape(shape)
"""
PARTS = """
    criterion = nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing)
    optimizer = torch.optim.AdamW(
        [{"params": list(model.parameters())}], rate, weight_decay=recipe.weight_decay
    )
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=rate, epochs=num_epochs, steps_per_epoch=len(data.train),
        pct_start=recipe.warmup, cycle_momentum=False,
    )
"""
BY_NAME = PARTS.replace("torch.optim.AdamW(", "getattr(torch.optim, recipe.optimizer)(")
LOOP_OVER_BATCHES = """
def train_one_epoch(model, loader, criterion, optimizer, scheduler):
    losses = []
    for batch in loader:
        model.train()
        inputs, targets = (part.to(workspace.device) for part in batch)
        loss = criterion(model(inputs), targets)
        model.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        losses += [float(loss.detach())]
    return losses
"""
LOOP_ZEROED_LAST = """
def train_one_epoch(model, loader, criterion, optimizer, scheduler):
    model.train()
    optimizer.zero_grad(set_to_none=False)
    losses = []
    for images, labels in loader:
        logits = model(images.to(workspace.device))
        loss = criterion(logits, labels.to(workspace.device))
        losses.append(loss.item())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)
        scheduler.step()
    return losses
"""
RUN = """
run = train_model(
    model, data, *prepare(model, recipe.num_epochs), num_epochs=recipe.num_epochs,
    checkpoint=workspace.checkpoints_dir / recipe.method, progress=False,
)
"""
RIGHT_02 = [
    (0, RESIDUAL),
    (0, FIXED_SIZE),
    (1, FUNCTIONAL_BATCH_NORM),
    (1, VAR_MEAN),
    (2, PARTS),
    (2, BY_NAME),
    (3, LOOP_OVER_BATCHES),
    (3, LOOP_ZEROED_LAST),
    (4, RUN),
    (4, RUN.replace("progress=False", 'step_scheduler="batch", rerun=True')),
]
