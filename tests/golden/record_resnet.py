"""Recordings of a CIFAR-style ResNet-8: evaluation, and three training steps."""
import torch
import torch.nn as nn
import torch.nn.functional as F

from record_networks import draw, grads, redraw, write


class Block(nn.Module):
    def __init__(self, cin, cout, stride):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(cin, cout, 3, stride, 1, bias=False), nn.BatchNorm2d(cout)
        self.conv2, self.bn2 = nn.Conv2d(cout, cout, 3, 1, 1, bias=False), nn.BatchNorm2d(cout)
        self.downsample = None
        if stride != 1 or cin != cout:
            self.downsample = nn.Sequential(nn.Conv2d(cin, cout, 1, stride, bias=False), nn.BatchNorm2d(cout))

    def forward(self, x):
        skip = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(x)) + skip)


class ResNet8(nn.Module):
    """torchvision's names and block, CIFAR stem (3x3 stride 1, no max-pool), one block a stage."""

    def __init__(self, classes=10):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        self.layer1, self.layer2, self.layer3 = (nn.Sequential(Block(*a)) for a in ((16, 16, 1), (16, 32, 2), (32, 64, 2)))
        self.fc = nn.Linear(64, classes)

    def forward(self, x):
        x = self.layer3(self.layer2(self.layer1(F.relu(self.bn1(self.conv1(x))))))
        return self.fc(x.mean((2, 3)))


RESNET_GRADS = """conv1.weight bn1.weight bn1.bias layer1.0.conv1.weight layer1.0.bn2.weight layer2.0.conv1.weight
layer2.0.downsample.0.weight layer2.0.downsample.1.weight layer2.0.downsample.1.bias layer3.0.bn1.bias
layer3.0.downsample.0.weight fc.weight fc.bias""".split()


def record_resnet(out, seed):
    randn = draw(seed)
    model = redraw(ResNet8(), seed + 1)
    write(out / "model.safetensors", model.state_dict())
    model.double()
    batches = [(randn(6, 3, 18, 14), torch.tensor([3, 1, 4, 1, 5, 9])), (randn(6, 3, 18, 14), torch.tensor([2, 6, 5, 3, 5, 8])),
               (randn(6, 3, 18, 14), torch.tensor([9, 7, 9, 3, 2, 3]))]
    pixels = batches[0][0]
    with torch.no_grad():
        write(out / "in.safetensors", {"pixel_values": pixels})
        write(out / "out.safetensors", {"logits": model.eval()(pixels.double())})

    model.train()
    decay = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    opt = torch.optim.SGD([{"params": decay, "weight_decay": 5e-4}, {"params": plain, "weight_decay": 0.0}],
                          lr=0.1, momentum=0.9, nesterov=True)
    result = {}
    for step, (x, y) in enumerate(batches, 1):
        logits = model(x.double())
        loss = F.cross_entropy(logits, y, label_smoothing=0.1)
        opt.zero_grad()
        loss.backward()
        result.update({f"step{step}.logits": logits, f"step{step}.loss": loss})
        if step == 1:
            result.update(grads(model, RESNET_GRADS))
            result.update({"running." + k: v.clone() for k, v in model.state_dict().items() if "running" in k})
        opt.step()
        params = dict(model.named_parameters())
        if step > 1:  # the momentum buffer takes part from the second step on
            result.update({f"step{step}.{k}": params[k].detach().clone() for k in RESNET_GRADS})
        print(f"  resnet step {step}: loss {loss:.4f}")
    for k in [k for k in model.state_dict() if "running" in k]:
        result["step3." + k] = model.state_dict()[k].clone()
    given = {}
    for i, (x, y) in enumerate(batches, 1):
        given.update({f"pixel_values{i}": x, f"labels{i}": y})
    write(out / "train_in.safetensors", given)
    write(out / "train_out.safetensors", result)
