"""Names that series cannot have, because answers use them otherwise. Imports nothing."""

from __future__ import annotations

# What answers name beside the series, or as columns beside them once a table is pivoted.
RESERVED = frozenset(
    {
        *("baseline", "own past", "remainder", "interaction", "all channels", "all others"),
        *("store", "date", "*"),
    }
)
_BETWEEN = " -> "  # the series of a path


def is_reserved(name: str) -> bool:
    """Whether a series of this name could be taken for something else in an answer.

    >>> is_reserved("Baseline"), is_reserved("tv -> sales"), is_reserved("tv")
    (True, True, False)
    """
    return name.strip().lower() in RESERVED or _BETWEEN in name
