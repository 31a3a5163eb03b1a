from erlmcp.runtime.executor import Carrier

class Berth:
    """``spare`` is the carrier that is parked, ``carrier`` the one that is entered; None where there is none."""

    spare: Carrier | None
    carrier: Carrier | None
