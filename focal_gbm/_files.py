"""Files that are written whole or not at all."""

import errno
import os
import secrets
import shutil
import stat
from pathlib import Path

# Errors if a new file cannot replace a writable one: its folder is not writable or read-only, or it
# is a mount.
_KEEPS_ITS_PLACE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.EBUSY, errno.EXDEV}


def write_whole(fname: str | os.PathLike[str], data: bytes | bytearray) -> None:
    """Write a file atomically: whatever happens, it has the old content or the new.

    The content is written to a new file in the same folder, synced, and renamed over the old one,
    whose mode, owner and attributes it keeps. A process that is killed in between leaves that new
    file behind, named ".focal_gbm-" and digits. If there is no regular file to replace (a device, a
    pipe, a mount), if it has further hard links, or if its folder or its owner forbids it, the
    existing file is overwritten in place.

    A symbolic link stands for its target, and "~" for the home folder.
    """
    given = Path(fname).expanduser()
    target = Path(os.path.realpath(given))
    if not _may_be_replaced(given, target):
        given.write_bytes(data)
        return
    try:
        temporary = _written_beside(target, data)
    except OSError as error:
        if error.errno not in _KEEPS_ITS_PLACE or not target.exists():
            error.filename = os.fspath(fname)  # not that of the temporary file
            raise
        target.write_bytes(data)
        return
    try:
        temporary.replace(target)
    except OSError as error:
        temporary.unlink()
        if error.errno not in _KEEPS_ITS_PLACE:
            raise
        target.write_bytes(data)


def _may_be_replaced(given: Path, target: Path) -> bool:
    # If standard output goes to a file, the open file must not be replaced.
    if given.absolute().parts[1:2] in (("dev",), ("proc",)):
        return False
    try:
        found = given.stat()
    except FileNotFoundError:
        return True
    is_alone = stat.S_ISREG(found.st_mode) and found.st_nlink == 1
    return is_alone and os.access(target, os.W_OK)


def _written_beside(target: Path, data: bytes | bytearray) -> Path:
    """A new file with the content, and with the target's owner, mode and attributes."""
    temporary = target.with_name(f".focal_gbm-{secrets.token_hex(8)}")
    # The process's umask reduces the mode of a new file.
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        size = temporary.stat().st_size
        if size != len(data):
            raise OSError(errno.EIO, f"{size} of {len(data)} bytes were written", str(target))
        if target.exists():
            _take_over(target, temporary)
    except BaseException:
        temporary.unlink()
        raise
    return temporary


def _take_over(target: Path, temporary: Path) -> None:
    """Give a new file the owner, mode and attributes of another, but not its times."""
    found = target.stat()
    new = temporary.stat()
    if (found.st_uid, found.st_gid) != (new.st_uid, new.st_gid):
        os.chown(temporary, found.st_uid, found.st_gid)
    shutil.copystat(target, temporary)
    os.utime(temporary)
