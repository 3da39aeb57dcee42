"""Pretraining of the prior of graphs: laws are drawn, their statistics kept, the network trained.

Draws and the state of training are kept in a folder, so that a run that was stopped goes on where
it was. What the network is, is decided in ``causalmmm.engine.prior``.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from causalmmm.engine.batches.windows import Windows
from causalmmm.engine.nn.pretrained import PretrainedGraphs
from causalmmm.engine.prior import (
    Example,
    Familiarity,
    PairStatistics,
    PanelKind,
    PretrainConfig,
    PretrainReport,
    PriorNetwork,
    kinds_of,
    train_prior,
    write_prior,
)
from causalmmm.engine.spec.calendar import Calendar, calendar_spec, period_of
from causalmmm.engine.training.threads import threads_for
from causalmmm.extras import package_version
from causalmmm.files import atomic_file
from causalmmm.kernels.extension import BUILT
from causalmmm.simulation.laws import HELD_OUT, TRAINING, LawDraw, draw_law

LAWS_PER_FILE = 100
_PROCESSES = 2  # that draw laws; more would hold as many panels in memory
# What draws are made by, under the package's folder: a change of any of it makes them stale.
_MADE_BY = (
    *("simulation", "engine/evidence", "engine/batches", "engine/ops", "engine/spec/calendar.py"),
    *("engine/nn/baseline.py", "engine/nn/pretrained.py", "engine/prior/statistics.py"),
    *("engine/prior/responses.py", "engine/prior/innovations.py", "model/pretraining.py"),
)
_STORES = {"wide": 2}  # of one law; the cost of statistics grows with the cube of the series
_USUAL_STORES = 4


def pretrain(
    out: Path,
    config: PretrainConfig,
    *,
    work: Path,
    drawn: Callable[[int], None] = lambda laws: None,
    on_epoch: Callable[[PretrainReport], None] = lambda report: None,
) -> dict[str, Any]:
    """Draw laws, train the network, and write weights and record into ``out``; returns the record.

    work      folder of the draws and of the state of training; a run that finds there what an
              earlier one with the same settings, laws and statistics left ends with the same bits.
    drawn     told the number of laws drawn so far.
    on_epoch  told losses after every epoch.
    """
    began = time.perf_counter()
    with threads_for(0):  # sums by several would round in another order
        some = examples(config.seed, config.laws, work, drawn)
        state = json.dumps([asdict(config), draws_version()]).encode()
        checkpoint = work / f"training-{hashlib.sha256(state).hexdigest()[:12]}.pt"
        network, familiarity, history = train_prior(some, config, on_epoch, checkpoint)
    record = {
        "kind": "causalmmm pretrained prior",
        "version": package_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "settings": asdict(config),
        "laws": {name: share for name, (_, share) in TRAINING.items()},
        "held out": list(HELD_OUT),
        "stores": sum(len(example.edges) for example in some),
        "features": int(some[0].features.shape[-1]),
        "seconds of this run": round(time.perf_counter() - began),
        "history": [asdict(report) for report in history],
    }
    return write_prior(out, network, familiarity, record)


def examples(seed: int, laws: int, folder: Path, drawn: Callable[[int], None]) -> list[Example]:
    """Statistics and edges of so many laws, from files in ``folder`` where they are there.

    ``drawn`` is told the number of laws after every file. Law k is the same however many are asked
    for. Files name the version of laws and statistics that they are of; others are not read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    begins = range(0, laws, LAWS_PER_FILE)
    files = [(seed, begin, min(LAWS_PER_FILE, laws - begin), folder) for begin in begins]
    found: list[Example] = []
    for path in _drawn_files(files):
        found += _read(path)
        drawn(min(len(found), laws))
    return found[:laws]


def _drawn_files(files: Sequence[tuple[int, int, int, Path]]) -> Iterator[Path]:
    """Paths of files in order, each once it is there; several are drawn side by side."""
    missing = sum(not _path(seed, begin, folder).is_file() for seed, begin, _, folder in files)
    processes = min(_PROCESSES, os.cpu_count() or 1, missing)
    if processes <= 1:
        yield from (_drawn_file(*file) for file in files)
        return
    pool = ProcessPoolExecutor(
        processes,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=torch.set_num_threads,
        initargs=(1,),
    )
    try:
        for future in [pool.submit(_drawn_file, *file) for file in files]:
            yield future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _drawn_file(seed: int, begin: int, count: int, folder: Path) -> Path:
    """The file of the laws from number ``begin`` on, with at least so many of them."""
    path = _path(seed, begin, folder)
    known = _read(path) if path.is_file() else []
    if len(known) < count:
        known += [example(seed, begin + k) for k in range(len(known), count)]
        _write(path, known)
    return path


def _path(seed: int, begin: int, folder: Path) -> Path:
    return folder / f"laws-{draws_version()}-{seed}-{begin:06d}.safetensors"


@cache
def draws_version() -> str:
    """Digest of the laws, of what reads statistics from them, and of the packages both rest on."""
    root = Path(__file__).resolve().parent.parent
    content = [torch.__version__, np.__version__]
    if BUILT:
        from causalmmm import _C

        content.append(_C.SOURCES)
    for name in _MADE_BY:
        path = root / name
        for file in [path] if path.is_file() else sorted(path.rglob("*.py")):
            content += [file.relative_to(root).as_posix(), file.read_text(encoding="utf-8")]
    return hashlib.sha256("\0".join(content).encode()).hexdigest()[:12]


def example(seed: int, number: int) -> Example:
    """Statistics and edges of the law with this number."""
    rng = np.random.default_rng([seed, number])
    share = [share for _, share in TRAINING.values()]
    name = list(TRAINING)[rng.choice(len(share), p=share)]
    draw = draw_law(name, int(rng.integers(1 << 40)), _STORES.get(name, _USUAL_STORES))
    kind, statistics = law_statistics(draw)
    features = statistics.features.to(torch.float16)
    return Example(features, torch.from_numpy(draw.edges), torch.tensor(kinds_of(kind.roles)))


def law_statistics(draw: LawDraw) -> tuple[PanelKind, PairStatistics]:
    """What the network reads of a law's stores."""
    spec = calendar_spec(draw.data, None, None)
    windows = Windows(draw.data, Calendar(spec, draw.data.grid), int(draw.data.lengths.max()), 0)
    positive = torch.from_numpy(draw.positive)
    kind = PanelKind(draw.data.roles, period_of(draw.data.freq), positive)
    graphs = PretrainedGraphs(kind, spec.groups, PriorNetwork(1), Familiarity(1))
    return kind, graphs.statistics(windows.full(np.arange(draw.data.n_stores)))


def _write(path: Path, drawn: list[Example]) -> None:
    tensors = {f"{k}.{n}": t for k, example in enumerate(drawn) for n, t in vars(example).items()}
    with atomic_file(path) as partial:
        save_file(tensors, partial)


def _read(path: Path) -> list[Example]:
    tensors = load_file(path)
    count = len({name.split(".")[0] for name in tensors})
    return [
        Example(*(tensors[f"{k}.{name}"] for name in ("features", "edges", "kinds")))
        for k in range(count)
    ]
