"""Everything the normalizer saw, on disk in order (wire.md section 6), without ever delaying it.

`service` listens and queues; `writer` is the thread that turns the queue into lines; `journal` puts lines
into zstd segments and keeps their number within bounds; `state` knows what a segment must begin with to be
read on its own; `records` writes the mapping as records; `files` finds them again.
"""

from wup.recorder.files import segments
from wup.recorder.service import Recorder

__all__ = ["Recorder", "segments"]
