"""What the compiled short way costs, recorded as it runs."""

from typing import Any

from erlmcp.core import Routes

class Watch:
    """Records into the histograms of ``recorder`` (``erlmcp.metrics.recorder.Recorder``); made by ``Stride``."""

    floor_ns: int
    """From how many nanoseconds on a call is of interest."""
    def __init__(self, recorder: Any, routes: Routes) -> None: ...
    @property
    def recorder(self) -> Any: ...
