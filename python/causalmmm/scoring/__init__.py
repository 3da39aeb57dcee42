"""Batch inference with an exported model: ``score`` from Arrow to Arrow, for any engine, and
``score_dataset`` over a partitioned Parquet data set on one machine.

What a model answers lives in ``causalmmm.runtime``; no torch here.
"""

from causalmmm.scoring.arrow import answer_schema, score
from causalmmm.scoring.dataset import MANIFEST, Scored, score_dataset

__all__ = ["MANIFEST", "Scored", "answer_schema", "score", "score_dataset"]
