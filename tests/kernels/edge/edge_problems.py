"""Problems for the edge operators, run through them and through the reference in float64."""

from __future__ import annotations

import torch
from torch import Tensor

from causalmmm.kernels import edge_mean, edge_sample
from causalmmm.kernels.edge import ops, reference
from causalmmm.kernels.edge.records import Draw, FirstPass, SecondPass

FIRST = ("sender1", "receiver1", "w2", "b2")
SECOND = ("sender2", "receiver2", "w3", "w4", "b4", "wo", "bo")
PAIR = ("features", "wf")
Values = dict[str, Tensor | None]


def problem(
    stores,
    nodes,
    width,
    types,
    features,
    dtype=torch.float32,
    *,
    seed=0,
    prior_per_store=False,
    device="cpu",
) -> Values:
    """Random arguments by name; the prior forbids one edge type and requires another."""
    random = torch.Generator().manual_seed(stores + 10 * nodes + width + types + seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=random, dtype=torch.float64)

    values = {
        "sender1": draw(stores, nodes, width),
        "receiver1": draw(stores, nodes, width),
        "w2": draw(width, width) / width**0.5,
        "b2": draw(width),
        "sender2": draw(stores, nodes, width),
        "receiver2": draw(stores, nodes, width),
        "w3": draw(width, width) / width**0.5,
        "w4": draw(width, width) / width**0.5,
        "b4": draw(width),
        "wo": draw(types, width) / width**0.5,
        "bo": draw(types),
        "features": draw(stores, nodes, nodes, features) if features else None,
        "wf": draw(width, features) if features else None,
    }
    values = {k: None if v is None else v.to(device, dtype) for k, v in values.items()}
    shape = (stores,) * prior_per_store + (nodes, nodes, types)
    prior = draw(*shape).log_softmax(-1)
    prior[..., 0, 1, 1:] = -torch.inf  # no edge 0 -> 1
    prior[..., 1, 0, :-1] = -torch.inf  # 1 -> 0 is of the last type
    kind = torch.float64 if dtype == torch.float64 else torch.float32
    return {**values, "log_prior": prior.to(device, kind)}


def path_of(values: Values) -> str:
    """The module of `causalmmm.kernels.edge` that computes these values."""
    return ops.path_for(first_of(values), len(values["wo"])).__name__.rpartition(".")[2]


def first_of(values: Values) -> FirstPass:
    return FirstPass(**{name: values[name] for name in FirstPass._fields})


def second_of(values: Values) -> SecondPass:
    return SecondPass(**{name: values[name] for name in SecondPass._fields})


def run(values: Values, exact=False, seed=3, hard=False, kind=None, keep=True) -> dict[str, Tensor]:
    """Outputs and gradients by name: of the operators, which hand e on or, without `keep`, compute
    it twice; with `exact`, of the reference in float64; with `kind` too, in that dtype."""
    kinds = dict.fromkeys(values, kind or torch.float64 if exact else None)
    if kind is not None:
        kinds["log_prior"] = torch.float32  # as the operators keep it
    held = {
        k: None if v is None else v.to(kinds[k] or v.dtype, copy=True).requires_grad_()
        for k, v in values.items()
    }
    place = values["sender1"].device
    first, second = first_of(held), second_of(held)
    store = torch.arange(len(values["sender1"]), device=place) * 3 + 2**33
    if exact:
        noise = None if seed is None else torch.tensor(seed, device=place)
        prior = held["log_prior"]
        tau = torch.tensor(0.7, dtype=prior.dtype, device=place)
        mean = reference.edge_mean(first)
        sampled = reference.edge_sample(first, second, Draw(prior, tau, noise, store, hard))
    else:
        options = {"temperature": 0.7, "seed": seed, "store": store, "hard": hard}
        pair = {n: held[n] for n in PAIR}
        mean, states = edge_mean(*first[:4], **pair, keep_states=keep)
        options["states"] = states
        sampled = edge_sample(*first[:4], *second, held["log_prior"], **pair, **options)
    outputs = {"mean": mean, **dict(zip(("z", "logits", "kl"), sampled, strict=True))}
    outputs["logits"] = outputs["logits"].nan_to_num(neginf=0.0)
    random = torch.Generator().manual_seed(1)
    loss = sum(
        (x * torch.randn(x.shape, generator=random, dtype=torch.float64).to(place, x.dtype)).sum()
        for x in outputs.values()
    )
    loss.backward()
    return {**outputs, **{f"d {k}": v.grad for k, v in held.items() if v is not None}}


def check_registration(values: Values) -> None:
    """The operators as torch sees them pass its own checks; the prior is a proper one."""
    first, second = first_of(values), second_of(values)
    prior = values["log_prior"].nan_to_num(neginf=-5.0)
    for tensor in (*first, *second, prior):
        tensor.requires_grad_()
    place, kind = prior.device, {"dtype": prior.dtype, "device": prior.device}
    seed, store = torch.tensor(3, device=place), torch.arange(len(first.sender1), device=place)
    draw = Draw(prior, torch.tensor(0.5, **kind), seed, store, False)
    states = torch.randn_like(first.sender1).unsqueeze(1).repeat(1, first.sender1.shape[1], 1, 1)
    sampled = (*first, *second, *draw)
    for keep in (False, True):
        torch.library.opcheck(torch.ops.causalmmm.edge_mean.default, (*first, keep))
    for given in (None, states.requires_grad_()):
        torch.library.opcheck(torch.ops.causalmmm.edge_sample.default, (*sampled, given))


def distance(got: Tensor, true: Tensor) -> float:
    """Relative, in the Euclidean norm."""
    got, true = got.detach().double(), true.detach().double()
    return float((got - true).norm() / true.norm())
