"""Files replaced whole: who reads one meanwhile, or after a crash, finds the old text or the new one."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from pathlib import Path


def replace_file(path: Path, text: str) -> None:
    """Write a text file, new or in place of another, whose mode and owner it keeps.

    The text is first written beside it, under a hidden name that does not end in `.toml`, so that no reader
    of mapping files takes it. Of a link the file that it names is replaced.

    Raises:
        OSError: it cannot be written; what was there is unchanged.
    """
    target = Path(os.path.realpath(path))
    beside = target.with_name(f".{target.name[:200]}.{secrets.token_hex(8)}.tmp")
    before = target.stat() if target.exists() else None
    try:
        with open(beside, "x", encoding="utf-8", newline="") as file:
            if before is not None:
                with contextlib.suppress(PermissionError):
                    os.fchown(file.fileno(), before.st_uid, before.st_gid)
                os.fchmod(file.fileno(), stat.S_IMODE(before.st_mode))
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, target)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        # The new name is on the disk too before anybody is told that it is written.
        os.fsync(folder)
    finally:
        os.close(folder)
