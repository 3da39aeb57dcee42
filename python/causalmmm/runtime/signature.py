"""How an exported file says what it is, and how it can be seen to be unchanged. Numpy-free."""

from __future__ import annotations

import hashlib

FORMAT = 4
# Read; in 1 two settings had other names (``engine.spec.config``), files of the response
# regression, which take a key of each store, are there since 3, and answer for returns since 4.
FORMATS = (1, 2, 3, 4)
KEY = "causalmmm"  # metadata: a JSON object, see ``exporting.facts``
SEAL = "causalmmm.sha256"  # metadata: of the file with this value as zeros
_BLANK = b"0" * 64


def seal(content: bytes) -> bytes:
    """The file with its digest in the place of the 64 zeros."""
    head, found, tail = content.rpartition(_BLANK)
    if not found:
        raise ValueError("there is no place for a digest")
    return head + hashlib.sha256(content).hexdigest().encode() + tail


def is_sealed(content: bytes, digest: str) -> bool:
    """Whether the file is the one that was sealed with this digest."""
    blank = content.replace(digest.encode(), _BLANK)
    return hashlib.sha256(blank).hexdigest() == digest
