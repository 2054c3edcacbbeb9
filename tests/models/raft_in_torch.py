"""RAFT in plain PyTorch, by torchvision's names: a reference that shares no code.

torchvision's own wheel needs PyTorch with CUDA. Both were once compared with torchvision 0.28.0
itself: this reference is off by 7.7e-7 of the largest flow, ours by 1.6e-6 (docs/ported.md).
"""

import torch
import torch.nn.functional as F

LARGE = {
    "block": "residual",
    "encoder": (64, 64, 96, 128, 256),
    "context": (64, 64, 96, 128, 256),
    "norms": ("instance", "batch"),
    "state": 128,
    "radius": 4,
    "correlation": (256, 192),
    "flow": (128, 64),
    "motion": 128,
    "kernels": ((1, 5), (5, 1)),
    "head": 256,
    "mask": True,
}
SMALL = {
    "block": "bottleneck",
    "encoder": (32, 32, 64, 96, 128),
    "context": (32, 32, 64, 96, 160),
    "norms": ("instance", None),
    "state": 96,
    "radius": 3,
    "correlation": (96,),
    "flow": (64, 32),
    "motion": 82,
    "kernels": ((3, 3),),
    "head": 128,
    "mask": False,
}


class RaftInTorch:
    """Makes its weights by chance when it first asks for them.

    Attributes:
        tensors: all of them by name.
    """

    def __init__(self, size: dict, seed: int = 0):
        self.size, self.tensors = size, {}
        self._random = torch.Generator().manual_seed(seed)

    def __call__(self, first, second, updates):
        size = self.size
        both = self.encode("feature_encoder", torch.cat([first, second]), "encoder", 0)
        one, two = both.chunk(2)
        levels = self.correlate(one, two)
        context = self.encode("context_encoder", first, "context", 1)
        state, context = context[:, : size["state"]].tanh(), context[:, size["state"] :].relu()
        b, _, h, w = one.shape
        y, x = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
        start = torch.stack([x, y])[None].to(torch.get_default_dtype()).expand(b, -1, -1, -1)
        flow = torch.zeros_like(start)
        for _ in range(updates):
            flow = flow.detach()
            near = self.look(levels, start + flow)
            state, step = self.update(state, context, near, flow)
            flow = flow + step
        return self.enlarge(flow, state)

    def weight(self, name, shape, around=0.0, spread=None):
        if name not in self.tensors:
            fan_in = torch.tensor(shape[1:]).prod().item() if len(shape) > 1 else 100
            spread = fan_in**-0.5 if spread is None else spread
            value = around + spread * torch.randn(shape, generator=self._random)
            self.tensors[name] = value.requires_grad_("running" not in name)
        return self.tensors[name]

    def conv(self, name, x, features, size, stride=1):
        h, w = size if isinstance(size, tuple) else (size, size)
        weight = self.weight(f"{name}.weight", (features, x.shape[1], h, w))
        bias = self.weight(f"{name}.bias", (features,))
        return F.conv2d(x, weight, bias, stride, (h // 2, w // 2))

    def conv_norm(self, name, x, features, size, stride=1, norm=None, relu=True):
        x = self.conv(f"{name}.0", x, features, size, stride)
        if norm == "instance":
            x = F.instance_norm(x)
        if norm == "batch":
            mean = self.weight(f"{name}.1.running_mean", (features,))
            variance = self.weight(f"{name}.1.running_var", (features,), 1.0)
            scale = self.weight(f"{name}.1.weight", (features,), 1.0)
            x = F.batch_norm(x, mean, variance, scale, self.weight(f"{name}.1.bias", (features,)))
        return x.relu() if relu else x

    def encode(self, name, x, channels, which):
        norm, channels = self.size["norms"][which], self.size[channels]
        x = self.conv_norm(f"{name}.convnormrelu", x, channels[0], 7, 2, norm)
        for stage in (1, 2, 3):
            for i in (0, 1):
                stride = 2 if stage > 1 and i == 0 else 1
                x = self.block(f"{name}.layer{stage}.{i}", x, channels[stage], stride, norm)
        return self.conv(f"{name}.conv", x, channels[4], 1)

    def block(self, name, x, features, stride, norm):
        if self.size["block"] == "residual":
            sizes = ((features, 3, stride), (features, 3, 1))
        else:
            sizes = ((features // 4, 1, 1), (features // 4, 3, stride), (features, 1, 1))
        y = x
        for i, one in enumerate(sizes, start=1):
            y = self.conv_norm(f"{name}.convnormrelu{i}", y, *one, norm)
        if stride != 1:
            x = self.conv_norm(f"{name}.downsample", x, features, 1, stride, norm, relu=False)
        return (x + y).relu()

    def correlate(self, one, two):
        b, c, h, w = one.shape
        volume = torch.einsum("bcyx,bcvu->byxvu", one, two).reshape(b * h * w, 1, h, w) / c**0.5
        levels = [volume]
        for _ in range(3):
            levels.append(F.avg_pool2d(levels[-1], 2))
        return levels

    def look(self, levels, places):
        b, _, h, w = places.shape
        radius = self.size["radius"]
        steps = torch.arange(-radius, radius + 1).to(torch.get_default_dtype())
        # the first of the two numbers is added to x: so the weights are trained
        offsets = torch.stack(torch.meshgrid(steps, steps, indexing="ij"), dim=-1)
        found = []
        for level, volume in enumerate(levels):
            centre = places.permute(0, 2, 3, 1).reshape(-1, 1, 1, 2) / 2**level
            most = torch.tensor([volume.shape[3] - 1, volume.shape[2] - 1])
            grid = 2 * (centre + offsets) / most - 1
            near = F.grid_sample(volume, grid, align_corners=True)
            found.append(near.reshape(b, h, w, -1))
        return torch.cat(found, dim=-1).permute(0, 3, 1, 2)

    def update(self, state, context, near, flow):
        size, name = self.size, "update_block.motion_encoder"
        x = near
        for i, (features, side) in enumerate(zip(size["correlation"], (1, 3)), start=1):  # noqa: B905
            x = self.conv_norm(f"{name}.convcorr{i}", x, features, side)
        y = flow
        for i, (features, side) in enumerate(zip(size["flow"], (7, 3), strict=True), start=1):
            y = self.conv_norm(f"{name}.convflow{i}", y, features, side)
        both = self.conv_norm(f"{name}.conv", torch.cat([x, y], 1), size["motion"] - 2, 3)
        seen = torch.cat([context, both, flow], 1)
        for i, kernel in enumerate(size["kernels"], start=1):
            name = f"update_block.recurrent_block.convgru{i}"
            whole, features = torch.cat([state, seen], 1), size["state"]
            z = self.conv(f"{name}.convz", whole, features, kernel).sigmoid()
            r = self.conv(f"{name}.convr", whole, features, kernel).sigmoid()
            reset = torch.cat([r * state, seen], 1)
            q = self.conv(f"{name}.convq", reset, features, kernel).tanh()
            state = (1 - z) * state + z * q
        hidden = self.conv("update_block.flow_head.conv1", state, size["head"], 3).relu()
        return state, self.conv("update_block.flow_head.conv2", hidden, 2, 3)

    def enlarge(self, flow, state):
        b, _, h, w = flow.shape
        if not self.size["mask"]:
            return 8 * F.interpolate(flow, scale_factor=8, mode="bilinear", align_corners=True)
        x = self.conv_norm("mask_predictor.convrelu", state, 256, 3)
        shares = 0.25 * self.conv("mask_predictor.conv", x, 9 * 64, 1)
        shares = shares.reshape(b, 1, 9, 8, 8, h, w).softmax(dim=2)
        near = F.unfold(8 * flow, 3, padding=1).reshape(b, 2, 9, 1, 1, h, w)
        return (shares * near).sum(2).permute(0, 1, 4, 2, 5, 3).reshape(b, 2, 8 * h, 8 * w)
