"""Ways of writing the two all-pairs passes in PyTorch, against which the operators are measured.

Each is a module on node states [B, N, H] and edge features [B, N, N, F] that returns z and kl.
Noise is drawn in each one's own way; `ENCODERS` names them.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from causalmmm.kernels import edge_mean, edge_sample
from causalmmm.kernels.edge import reference
from causalmmm.kernels.edge.records import Draw, FirstPass, SecondPass

TYPES = 2
TEMPERATURE = 0.5


class Operators(nn.Module):
    """The public operators; without `keep` e is computed twice, as where there is no room."""

    def __init__(self, nodes: int, width: int, features: int, keep: bool = True) -> None:
        super().__init__()
        self.keep = keep
        self.sender1, self.sender2 = (nn.Linear(width, width, bias=False) for _ in range(2))
        self.receiver1, self.receiver2 = (nn.Linear(width, width) for _ in range(2))
        self.feature = nn.Linear(features, width, bias=False)
        self.pass1, self.pass2 = (nn.Linear(width, width) for _ in range(2))
        self.skip = nn.Linear(width, width, bias=False)
        self.node = nn.Linear(width, width)
        self.out = nn.Linear(width, TYPES)
        prior = torch.full((nodes, nodes, TYPES), 0.5).log()
        self.register_buffer("log_prior", prior)

    def forward(self, h: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        first = self.sender1(h), self.receiver1(h), self.pass1.weight, self.pass1.bias
        mean, states = self.mean(first, features, self.feature.weight)
        state = F.elu(self.node(mean))
        second = (self.sender2(state), self.receiver2(state), self.skip.weight)
        second += (self.pass2.weight, self.pass2.bias, self.out.weight, self.out.bias)
        return self.sample(first, second, features, self.feature.weight, states)

    def mean(
        self, first: tuple[Tensor, ...], features: Tensor, wf: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        return edge_mean(*first, features=features, wf=wf, keep_states=self.keep)

    def sample(
        self,
        first: tuple[Tensor, ...],
        second: tuple[Tensor, ...],
        features: Tensor,
        wf: Tensor,
        states: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        options = {"features": features, "wf": wf, "temperature": TEMPERATURE, "seed": 1}
        options["states"] = states
        z, _, kl = edge_sample(*first, *second, self.log_prior, **options)
        return z, kl


class Factorised(Operators):
    """The same, well written in eager PyTorch: factorised first layer, LayerNorm."""

    def mean(
        self, first: tuple[Tensor, ...], features: Tensor, wf: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        states = reference.edge_states(FirstPass(*first, features, wf))
        return reference.mean_of_others(states), states

    def sample(
        self,
        first: tuple[Tensor, ...],
        second: tuple[Tensor, ...],
        features: Tensor,
        wf: Tensor,
        states: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        store = torch.arange(len(features), device=features.device)
        tau = torch.full((), TEMPERATURE, device=features.device)
        seed = torch.full((), 1, device=features.device)
        draw = Draw(self.log_prior.float(), tau, seed, store, hard=False)
        once = FirstPass(*first, features, wf)
        z, _, kl = reference.edge_sample(once, SecondPass(*second), draw, states)
        return z, kl


class Concatenated(nn.Module):
    """As in the published code of neural relational inference: gather, concatenate, two layers and
    a norm (BatchNorm there), for every ordered pair."""

    def __init__(self, nodes: int, width: int, features: int, norm: str = "batch") -> None:
        super().__init__()
        pairs = [(i, j) for j in range(nodes) for i in range(nodes) if i != j]
        send, receive = torch.tensor(pairs).T.contiguous()
        self.register_buffer("send", send)
        self.register_buffer("receive", receive)
        self.first = nn.Sequential(
            nn.Linear(2 * width + features, width), nn.ELU(), nn.Linear(width, width), nn.ELU()
        )
        self.second = nn.Sequential(
            nn.Linear(3 * width, width), nn.ELU(), nn.Linear(width, width), nn.ELU()
        )
        kind = nn.BatchNorm1d if norm == "batch" else nn.LayerNorm
        self.norm1, self.norm2 = kind(width), kind(width)
        self.node, self.out = nn.Linear(width, width), nn.Linear(width, TYPES)

    def forward(self, h: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        stores, nodes, width = h.shape
        send, receive = self.send, self.receive
        pair = torch.cat([h[:, send], h[:, receive], features[:, send, receive]], -1)
        edge = self.norm1(self.first(pair).flatten(0, 1)).view(stores, -1, width)
        mean = edge.new_zeros(stores, nodes, width).index_add(1, receive, edge) / (nodes - 1)
        state = F.elu(self.node(mean))
        pair = torch.cat([state[:, send], state[:, receive], edge], -1)
        last = self.norm2(self.second(pair).flatten(0, 1)).view(stores, -1, width)
        logits = self.out(last).float()
        z = F.gumbel_softmax(logits, tau=TEMPERATURE)
        log_q = logits.log_softmax(-1)
        kl = (log_q.exp() * (log_q + torch.tensor(2.0).log())).sum((1, 2))
        return z, kl


ENCODERS = {
    "operators": Operators,
    "factorised, LayerNorm": Factorised,
    "concatenated, BatchNorm": Concatenated,
    "concatenated, LayerNorm": lambda *sizes: Concatenated(*sizes, norm="layer"),
}


def loss(z: Tensor, kl: Tensor) -> Tensor:
    return z[..., -1].square().sum() + kl.sum()


def training_step(model: nn.Module, h: Tensor, features: Tensor) -> Callable[[], None]:
    """Forward and backward of both passes, as a function to be timed."""

    def step() -> None:
        model.zero_grad()
        h.grad = None
        loss(*model(h, features)).backward()

    return step


def check(device: torch.device | str, dtype: torch.dtype, width: int = 64) -> None:
    """The operators against the factorised form, outputs and gradients, before timing."""
    torch.manual_seed(0)
    ours, plain = Operators(5, width, 8), Factorised(5, width, 8)
    plain.load_state_dict(ours.state_dict())
    h, features = torch.randn(6, 5, width), torch.randn(6, 5, 5, 8)
    results = []
    for model, model_dtype in ((ours, dtype), (plain, torch.float32)):
        model.to(device, model_dtype)
        z, kl = model(h.to(device, model_dtype), features.to(device, model_dtype))
        loss(z, kl).backward()
        results.append([z, kl, model.pass1.weight.grad, model.skip.weight.grad])
    tolerance = 1e-4 if dtype == torch.float32 else 5e-2
    for got, expected in zip(*results, strict=True):
        error = (got.float() - expected).norm() / expected.norm()
        if not error < tolerance:
            raise SystemExit(f"operators differ from eager PyTorch by {float(error):.1e}")
