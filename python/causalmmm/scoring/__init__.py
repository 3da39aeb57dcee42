"""Answers for very many stores, in Arrow and in Parquet.

``score`` goes from Arrow to Arrow, for whatever engine hands out the tables; ``score_dataset`` over
a partitioned Parquet data set on one machine. What a model is asked lives in ``causalmmm.runtime``.
"""

from causalmmm.scoring.dataset import MANIFEST, Scored, answer_schema, score, score_dataset

__all__ = ["MANIFEST", "Scored", "answer_schema", "score", "score_dataset"]
