"""The seam between the stages: one interface, an in-process bus and NATS core behind it.

`LocalBus` hands the same bytes to the next stage by a plain call. `NatsBus` carries them between
processes. `LinkedBus` is both: local delivery first, then NATS for everybody outside.
"""

from wup.bus.base import Bus, Handler, Message, Subscription
from wup.bus.linked import LinkedBus
from wup.bus.local import LocalBus
from wup.bus.nats import NatsBus

__all__ = ["Bus", "Handler", "LinkedBus", "LocalBus", "Message", "NatsBus", "Subscription"]
