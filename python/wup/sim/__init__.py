"""Venue simulators: wire-exact venues on loopback, driven by one seeded market model.

Reading order: `fixed` (numbers), `world` and `listed` (what is listed), `ladder`, `history`, `engine` and
`market` (the matching engine and its traffic), `exchange` and `faults` (a venue without I/O, and what can
go wrong), `kalshi` and `polymarket` (their conversations and REST), `pump`, `transport`, `socketserver`,
`httpserver`, `control` (real sockets), `service` (all of it together), `mapping` (the mapping file).

Nothing here imports the adapters or the normalizer: the simulators must be able to prove them wrong.
"""

from wup.sim.mapping import mapping_file
from wup.sim.service import SimSettings, Simulators, run

__all__ = ["SimSettings", "Simulators", "mapping_file", "run"]
