"""Updates of the weights: on a CPU step by step; on a GPU as CUDA graphs, captured and replayed.

An update of a small batch is some three thousand small kernels. A GPU waits for the program that
launches them one by one; a graph of them all is launched by one call.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from causalmmm.engine.batches.windows import Batch
from causalmmm.engine.nn.model import CausalModel, effect_noise
from causalmmm.engine.spec.config import TrainConfig

_EAGER_FIRST = 3  # updates before a capture: kernels are compiled, libraries take their workspaces
_MOST_GRAPHS = 4  # shapes of batches; where histories differ more, further shapes run step by step


@dataclass
class Inputs:
    """All that changes from one update to the next, on the model's device."""

    batch: Batch
    store_log_bf: Tensor | None
    noise: Tensor
    temperature: Tensor
    seed: Tensor
    kl_weight: Tensor

    def tensors(self) -> Iterator[Tensor]:
        for holder in (self.batch, self):
            yield from (value for value in vars(holder).values() if isinstance(value, Tensor))

    def shape(self) -> tuple[torch.Size, ...]:
        return tuple(value.shape for value in self.tensors())


@dataclass
class Captured:
    graph: torch.cuda.CUDAGraph
    inputs: Inputs
    losses: Tensor

    def replay(self, inputs: Inputs) -> Tensor:
        for mine, given in zip(self.inputs.tensors(), inputs.tensors(), strict=True):
            mine.copy_(given, non_blocking=True)
        self.graph.replay()
        return self.losses.clone()


class Updates:
    """AdamW steps on ``model``, which stays on ``device``; ``stores`` as in its forward pass."""

    def __init__(
        self,
        model: CausalModel,
        groups: list[dict[str, Any]],
        config: TrainConfig,
        *,
        stores: int,
        device: torch.device,
    ) -> None:
        self.model, self.config, self.stores, self.device = model, config, stores, device
        on_gpu = device.type == "cuda"
        rate = torch.tensor(config.learning_rate, device=device) if on_gpu else config.learning_rate
        options: dict[str, Any] = {"fused": True, "capturable": True} if on_gpu else {}
        self.optimiser = torch.optim.AdamW(groups, lr=rate, **options)
        self.stream = torch.cuda.Stream(device) if on_gpu else None
        self.rates = [torch.empty((), device=device) for _ in groups]
        self.captured: dict[tuple[torch.Size, ...], Captured] = {}
        self.eager, self.capturing = 0, on_gpu

    def __call__(
        self,
        batch: Batch,
        *,
        rate: float,
        temperature: float,
        seed: int,
        kl_weight: float,
        store_log_bf: Tensor | None,
    ) -> Tensor:
        """One update at learning rate ``rate``. Gives [2], detached: the negative ELBO and the KL
        of the edges, both per store."""
        for group, held in zip(self.optimiser.param_groups, self.rates, strict=True):
            at = rate * group["pace"]
            group["lr"] = at if self.stream is None else held.fill_(at)
        batch = batch.to(self.device)
        inputs = Inputs(
            batch=batch,
            store_log_bf=store_log_bf,
            noise=effect_noise(batch, seed),
            temperature=torch.full((), temperature, device=self.device),
            seed=torch.full((), seed, dtype=torch.int64, device=self.device),
            kl_weight=torch.full((), kl_weight, device=self.device),
        )
        if self.stream is None:
            return self._run(inputs)
        known = self.captured.get(inputs.shape())
        if known is None and self.capturing and self.eager >= _EAGER_FIRST:
            known = self._capture(inputs)
        return self._beside(inputs) if known is None else known.replay(inputs)

    def _run(self, inputs: Inputs) -> Tensor:
        loss = self.model(
            inputs.batch,
            temperature=inputs.temperature,
            seed=inputs.seed,
            noise=inputs.noise,
            kl_weight=inputs.kl_weight,
            stores=self.stores,
            store_log_bf=inputs.store_log_bf,
        )
        self.optimiser.zero_grad(set_to_none=True)
        loss.total.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip)
        self.optimiser.step()
        return torch.stack([loss.total.detach(), loss.kl_edges])

    def _beside(self, inputs: Inputs) -> Tensor:
        """An update on the stream that captures, so that autograd's nodes belong to it."""
        assert self.stream is not None
        current = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            losses = self._run(inputs)
        current.wait_stream(self.stream)
        self.eager += 1
        return losses

    def _capture(self, inputs: Inputs) -> Captured | None:
        """The update of batches of this shape as a graph, or None where it cannot be one."""
        if len(self.captured) == _MOST_GRAPHS:
            return None
        pool = next((known.graph.pool() for known in self.captured.values()), None)
        graph, current = torch.cuda.CUDAGraph(), torch.cuda.current_stream(self.device)
        try:
            with torch.cuda.graph(graph, pool=pool, stream=self.stream):
                losses = self._run(inputs)
        except RuntimeError as refused:
            torch.cuda.set_stream(current)  # a capture that breaks off leaves its own
            self.capturing = False
            reason = str(refused.__context__ or refused).splitlines()[0]
            warnings.warn(
                f"updates go kernel by kernel, which is slow: no graph of them ({reason})",
                stacklevel=2,
            )
            return None
        known = Captured(graph, inputs, losses)
        self.captured[inputs.shape()] = known
        return known
