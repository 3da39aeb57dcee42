"""An exported model behind HTTP. Needs the extra ``serve``; no torch.

``create_app(model)`` returns an ASGI application for any server; ``causalmmm serve`` runs it. What
the answers are is decided in ``causalmmm.runtime``.
"""

from __future__ import annotations

from causalmmm.serving.app import create_app
from causalmmm.serving.guard import LOOPBACK, is_loopback
from causalmmm.serving.limits import Limits

__all__ = ["LOOPBACK", "Limits", "create_app", "is_loopback"]
