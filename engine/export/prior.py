"""The exported pretrained prior: from histories of a kind of panel to probabilities of edges.

No fit is in it: roles, signs, calendar and what is known of edges beforehand are constants of the
file, all else follows from the rows that it is given.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from causalmmm.engine.export.calendar import ExportedCalendar, scale_of
from causalmmm.engine.export.graph import batch_of
from causalmmm.engine.nn.pretrained import PretrainedGraphs
from causalmmm.engine.spec.calendar import CalendarSpec

INPUTS = {
    "history": ("batch", "time", "series"),
    "controls": ("batch", "time", "control"),
    "date": ("batch", "time"),
}
OUTPUTS = {
    "probability": ("batch", "source", "target"),
    "evidence": ("batch", "source", "target"),
    "unlike": ("batch",),
}


class ExportedPrior(nn.Module):
    """``forward`` maps INPUTS to OUTPUTS; controls are omitted where there are none.

    graphs  reads stores, as members of a panel if it was told one.
    given   [N, N], probability of every edge before any data.
    """

    odds: Tensor

    def __init__(
        self, graphs: PretrainedGraphs, calendar: CalendarSpec, given: Tensor, *, window: int
    ) -> None:
        super().__init__()
        self.graphs, self.window = graphs, window
        self.calendar = ExportedCalendar(calendar)
        self.register_buffer("odds", torch.logit(given))  # infinite where an edge is settled

    def forward(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        scale = scale_of(inputs["history"])
        statistics = self.graphs.statistics(batch_of(inputs, scale, self.calendar, self.window))
        return {
            "probability": torch.sigmoid(self.odds + self.graphs.log_bf(statistics)),
            "evidence": torch.sigmoid(self.odds + statistics.log_bf),
            "unlike": self.graphs.unlike(statistics),
        }
