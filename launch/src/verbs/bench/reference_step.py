"""One training step of MAE or RSP in PyTorch eager, sizes as in the recipe: what `foresee bench pretrain --python` runs beside ours.

Written from the papers' formulae, with the operations of the published code: attention as two matrix products and a softmax, AdamW,
RSP's third decoding (from the prior, without gradient) at every step; in bf16 under autocast. Reads a line, runs a step, prints its seconds.
"""

import json
import sys
import time

import torch
import torch.nn as nn
import torch.nn.functional as F

settings = json.loads(sys.argv[1])
torch.set_num_threads(settings["threads"])
torch.manual_seed(0)
device = torch.device(settings["device"])
torch.set_default_device(device)
encoder_sizes, decoder_sizes = settings["encoder"], settings["decoder"]
batch, latent = settings["batch"], settings.get("latent")
image, patch = encoder_sizes["image_size"], encoder_sizes["patch_size"]
num_patches, values = (image // patch) ** 2, 3 * patch * patch


class Attention(nn.Module):
    def __init__(self, dim, heads, crosses=False):
        super().__init__()
        self.heads, self.crosses = heads, crosses
        self.q = nn.Linear(dim, dim) if crosses else None
        self.kv = nn.Linear(dim, (2 if crosses else 3) * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x, memory=None):
        n, t, c = x.shape
        split = lambda y, parts: y.reshape(n, -1, parts, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        if self.crosses:
            (q,), (k, v) = split(self.q(x), 1), split(self.kv(memory), 2)
        else:
            q, k, v = split(self.kv(x), 3)
        shares = ((q @ k.transpose(-2, -1)) * (c // self.heads) ** -0.5).softmax(dim=-1)
        return self.proj((shares @ v).transpose(1, 2).reshape(n, t, c))


class Block(nn.Module):
    def __init__(self, dim, heads, hidden, crosses):
        super().__init__()
        norm = lambda: nn.LayerNorm(dim, eps=1e-6)
        self.cross = Attention(dim, heads, True) if crosses else None
        self.norm_x, self.norm_memory = (norm(), norm()) if crosses else (None, None)
        self.norm1, self.attention, self.norm2 = norm(), Attention(dim, heads), norm()
        self.mlp = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))

    def forward(self, x, memory=None):
        if self.cross is not None:
            x = x + self.cross(self.norm_x(x), self.norm_memory(memory))
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        d, e = encoder_sizes["dim"], decoder_sizes["dim"]
        self.patch_embed = nn.Conv2d(3, d, patch, patch)
        self.cls = nn.Parameter(torch.zeros(1, 1, d))
        self.positions = nn.Parameter(torch.randn(1, num_patches + 1, d), requires_grad=False)
        self.blocks = nn.ModuleList(
            Block(d, encoder_sizes["heads"], encoder_sizes["mlp_dim"], False) for _ in range(encoder_sizes["depth"]))
        self.norm = nn.LayerNorm(d, eps=1e-6)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, e))
        self.decoder_positions = nn.Parameter(torch.randn(1, num_patches + 1, e), requires_grad=False)
        self.embed = nn.Linear(d, e)
        self.decoder = nn.ModuleList(
            Block(e, decoder_sizes["heads"], decoder_sizes["mlp_dim"], latent is not None)
            for _ in range(decoder_sizes["depth"]))
        self.decoder_norm = nn.LayerNorm(e, eps=1e-6)
        self.head = nn.Linear(e, values)
        if latent is not None:
            count = latent["groups"] * latent["classes"]
            self.posterior = nn.Sequential(nn.Linear(2 * d, 2 * d), nn.ReLU(), nn.Linear(2 * d, count))
            self.prior = nn.Sequential(nn.Linear(d, 2 * d), nn.ReLU(), nn.Linear(2 * d, count))
            self.embed_source, self.embed_latent = nn.Linear(d, e), nn.Linear(count, e)

    def encode(self, x, ratio=0.0):
        x = self.patch_embed(x).flatten(2).transpose(1, 2) + self.positions[:, 1:]
        n, length, d = x.shape
        restore = mask = None
        if ratio > 0:
            order = torch.rand(n, length).argsort(dim=1)
            restore, kept = order.argsort(dim=1), int(length * (1 - ratio))
            x = x.gather(1, order[:, :kept, None].expand(-1, -1, d))
            mask = torch.ones(n, length)
            mask[:, :kept] = 0
            mask = mask.gather(1, restore)
        x = torch.cat([(self.cls + self.positions[:, :1]).expand(n, -1, -1), x], dim=1)
        for block in self.blocks:
            x = block(x)
        return self.norm(x), restore, mask

    def filled(self, tokens, restore):
        x = self.embed(tokens)
        n, seen, e = x.shape
        hidden = self.mask_token.expand(n, num_patches + 1 - seen, -1)
        patches = torch.cat([x[:, 1:], hidden], dim=1).gather(1, restore[:, :, None].expand(-1, -1, e))
        return torch.cat([x[:, :1], patches], dim=1) + self.decoder_positions

    def decode(self, x, memory=None):
        for block in self.decoder:
            x = block(x, memory)
        return self.head(self.decoder_norm(x))[:, 1:]


def target_of(x):
    n, side = x.shape[0], image // patch
    x = x.reshape(n, 3, side, patch, side, patch).permute(0, 2, 4, 3, 5, 1).reshape(n, num_patches, values)
    return (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True) + 1e-6) ** 0.5


def mae_loss(model, x):
    tokens, restore, mask = model.encode(x, settings["mask_ratio"])
    error = ((model.decode(model.filled(tokens, restore)) - target_of(x)) ** 2).mean(-1)
    return (error * mask).sum() / mask.sum()


def divergence(p, q):
    return (p.softmax(-1) * (p.log_softmax(-1) - q.log_softmax(-1))).sum((1, 2)).mean()


def rsp_loss(model, x, later):
    n = x.shape[0]
    shape = (n, latent["groups"], latent["classes"])
    source = model.encode(x)[0]
    noisy = model.encode(later + 0.5 * torch.randn_like(later))[0]
    posterior = model.posterior(torch.cat([source[:, 0], noisy[:, 0]], dim=-1)).reshape(shape)
    prior = model.prior(source[:, 0]).reshape(shape)
    queries = model.mask_token + model.decoder_positions
    target = target_of(later)

    def future(logits):
        shares = logits.softmax(-1)
        drawn = F.one_hot(torch.distributions.Categorical(probs=shares.detach()).sample(), shape[2]).float()
        sample = (drawn + shares - shares.detach()).reshape(n, 1, -1)
        memory = torch.cat([model.embed_latent(sample), model.embed_source(source) + model.decoder_positions], dim=1)
        return ((model.decode(queries.expand(n, -1, -1), memory) - target) ** 2).mean()

    kl = 0.2 * divergence(posterior, prior.detach()) + 0.8 * divergence(posterior.detach(), prior)
    tokens, restore, mask = model.encode(later, settings["mask_ratio"])
    error = ((model.decode(queries.expand(n, -1, -1), model.filled(tokens, restore)) - target) ** 2).mean(-1)
    with torch.no_grad():
        future(prior)
    return future(posterior) + 0.01 * kl.clamp(min=0.1) + (error * mask).sum() / mask.sum()


model = Model()
flat = [p for p in model.parameters() if p.requires_grad and p.ndim < 2]
matrices = [p for p in model.parameters() if p.requires_grad and p.ndim >= 2]
groups = [{"params": flat, "weight_decay": 0.0}, {"params": matrices, "weight_decay": 0.05}]
optimiser = torch.optim.AdamW(groups, lr=1e-6, betas=(0.9, 0.95))
views = [torch.randn(batch, 3, image, image) for _ in range(1 if latent is None else 2)]
print(torch.__version__, flush=True)
for _ in sys.stdin:
    started = time.perf_counter()
    with torch.autocast(device.type, torch.bfloat16, enabled=settings["bf16"]):
        loss = mae_loss(model, *views) if latent is None else rsp_loss(model, *views)
    loss.backward()
    optimiser.step()
    optimiser.zero_grad()
    if device.type == "cuda":
        torch.cuda.synchronize()
    print(time.perf_counter() - started, flush=True)
