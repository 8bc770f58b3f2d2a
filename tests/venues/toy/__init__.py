"""A venue of our own making: what `docs/adding-a-venue.md` builds step by step.

It sends whole books only, numbers its frames, and repairs nothing: a gap closes the connection's books until
it sends the next ones.
"""

from venues.toy.catalog import ToyCatalogue
from venues.toy.normalise import ToyNormaliser
from venues.toy.session import ToySession
from venues.toy.settings import ToySettings
from wup.venues.base import Limits, Venue

VENUE = Venue(
    name="toy",
    settings=ToySettings,
    session=ToySession,
    normaliser=ToyNormaliser,
    catalogue=ToyCatalogue,
    limits=Limits(assets_per_connection=2),
)
