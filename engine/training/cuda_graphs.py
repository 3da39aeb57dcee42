"""Updates of the weights, and whatever else runs on one batch after another: eager on a CPU; on a
GPU as CUDA graphs, captured once and replayed.

An update of a small batch is hundreds of small kernels. Launched one by one they are bound by the
launches; a CUDA graph launches all of them in one call.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from causalmmm.engine.batches.batch import Batch
from causalmmm.engine.nn.model import CausalModel, Losses
from causalmmm.engine.nn.posterior import effect_noise
from causalmmm.engine.spec.config import TrainConfig
from causalmmm.engine.training.adamw import AdamW
from causalmmm.engine.training.divergence import first_not_finite
from causalmmm.engine.training.ranks import Ranks

_EAGER_FIRST = 3  # runs before a capture: kernels compile and libraries allocate workspaces
_MAX_GRAPHS = 4  # one per shape of the inputs; batches of further shapes run eagerly


@dataclass
class Inputs:
    """Everything that changes from one batch to the next, on the model's device."""

    batch: Batch
    store_log_bf: Tensor | None
    noise: Tensor
    temperature: Tensor
    seed: Tensor
    kl_weight: Tensor
    weight: Tensor

    @classmethod
    def of(
        cls,
        batch: Batch,
        *,
        store_log_bf: Tensor | None,
        noise: Tensor,
        temperature: float,
        seed: int,
        kl_weight: float,
        weight: float,
    ) -> Inputs:
        """With the numbers as tensors, which a graph can be given anew."""
        device = batch.x.device
        return cls(
            batch=batch,
            store_log_bf=store_log_bf,
            noise=noise,
            temperature=torch.full((), temperature, device=device),
            seed=torch.full((), seed, dtype=torch.int64, device=device),
            kl_weight=torch.full((), kl_weight, device=device),
            weight=torch.full((), weight, device=device),
        )

    def losses(self, model: CausalModel, stores: int) -> Losses:
        """The model's losses on the batch; ``stores`` as in ``CausalModel``."""
        losses: Losses = model(
            self.batch,
            temperature=self.temperature,
            seed=self.seed,
            noise=self.noise,
            kl_weight=self.kl_weight,
            stores=stores,
            store_log_bf=self.store_log_bf,
        )
        return losses

    def tensors(self) -> Iterator[Tensor]:
        for holder in (self.batch, self):
            yield from (value for value in vars(holder).values() if isinstance(value, Tensor))

    def shape(self) -> tuple[torch.Size, ...]:
        return tuple(value.shape for value in self.tensors())


@dataclass
class Captured:
    """A captured run with its input buffers and its output buffer."""

    graph: torch.cuda.CUDAGraph
    inputs: Inputs
    results: Tensor

    def replay(self, inputs: Inputs) -> Tensor:
        for buffer, value in zip(self.inputs.tensors(), inputs.tensors(), strict=True):
            buffer.copy_(value, non_blocking=True)
        self.graph.replay()
        return self.results.clone()


class Graphs:
    """Calls ``run``, which must read nothing back from the device; on a GPU as one graph for each
    shape of its inputs, and kernel by kernel before the first capture or where that fails."""

    def __init__(self, run: Callable[[Inputs], Tensor], device: torch.device) -> None:
        self.run, self.device = run, device
        on_gpu = device.type == "cuda"
        self.stream = torch.cuda.Stream(device) if on_gpu else None
        self.captured: dict[tuple[torch.Size, ...], Captured] = {}
        self.eager, self.capturing = 0, on_gpu

    def __call__(self, inputs: Inputs) -> Tensor:
        if self.stream is None:
            return self.run(inputs)
        captured = self.captured.get(inputs.shape())
        if captured is None and self.capturing and self.eager >= _EAGER_FIRST:
            captured = self._capture(inputs)
        return self._run_on_stream(inputs) if captured is None else captured.replay(inputs)

    def _run_on_stream(self, inputs: Inputs) -> Tensor:
        """An eager run on the capturing stream, so that autograd's nodes belong to it."""
        assert self.stream is not None
        current = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            results = self.run(inputs)
        current.wait_stream(self.stream)
        self.eager += 1
        return results

    def _capture(self, inputs: Inputs) -> Captured | None:
        """The run for inputs of this shape as a graph; None where it cannot be captured."""
        if len(self.captured) == _MAX_GRAPHS:
            return None
        pool = next((other.graph.pool() for other in self.captured.values()), None)
        graph, current = torch.cuda.CUDAGraph(), torch.cuda.current_stream(self.device)
        try:
            with torch.cuda.graph(graph, pool=pool, stream=self.stream):
                results = self.run(inputs)
        except RuntimeError as error:
            torch.cuda.set_stream(current)  # a failed capture leaves its own stream set
            self.capturing = False
            reason = str(error.__context__ or error).splitlines()[0]
            warnings.warn(
                f"CUDA graph capture failed ({reason}); training continues without it, more slowly",
                stacklevel=2,
            )
            return None
        captured = Captured(graph, inputs, results)
        self.captured[inputs.shape()] = captured
        return captured


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
        ranks: Ranks = Ranks(),  # noqa: B008  (immutable)
    ) -> None:
        self.model, self.config, self.stores, self.device = model, config, stores, device
        self.ranks = ranks
        on_gpu = device.type == "cuda"
        rate = torch.tensor(config.learning_rate, device=device) if on_gpu else config.learning_rate
        self.optimiser = AdamW(groups, rate)
        self.parameters = list(model.parameters())
        self.rates = [torch.empty((), device=device) for _ in groups]
        self.graphs = Graphs(self._run, device)

    def __call__(
        self,
        batch: Batch,
        *,
        rate: float,
        temperature: float,
        seed: int,
        kl_weight: float,
        store_log_bf: Tensor | None,
        of: int | None = None,
    ) -> Tensor:
        """One update at learning rate ``rate``, from this rank's part of a batch of ``of`` stores
        (None: from a whole one). Returns [5], detached: negative ELBO and KL of the edges, both per
        store, weighted by this rank's share of the stores; norm of the gradient before clipping;
        position in the batch of the first store whose loss is not finite, and the number of such
        stores."""
        of, on_gpu = of or len(batch.store), self.device.type == "cuda"
        for group, buffer in zip(self.optimiser.param_groups, self.rates, strict=True):
            scaled = rate * group["pace"]
            group["lr"] = buffer.fill_(scaled) if on_gpu else scaled
        batch = batch.to(self.device)
        return self.graphs(
            Inputs.of(
                batch,
                store_log_bf=store_log_bf,
                noise=effect_noise(batch, seed, of)[self.ranks.share(of)],
                temperature=temperature,
                seed=seed,
                kl_weight=kl_weight,
                weight=len(batch.store) / of,
            )
        )

    def _run(self, inputs: Inputs) -> Tensor:
        loss = inputs.losses(self.model, self.stores)
        self.optimiser.zero_grad()
        total = loss.total * inputs.weight
        total.backward()
        self.ranks.sum_gradients(self.parameters)
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.config.clip)
        self.optimiser.step()
        first, count = first_not_finite(loss.per_store)
        return torch.stack([total.detach(), loss.kl_edges * inputs.weight, norm, first, count])
