"""Files that are written whole or not at all."""

import errno
import os
import secrets
import shutil
import stat
from pathlib import Path

# Why a new file cannot take the place of one that may be written to: its folder is not writable or
# read-only, or it is a mount.
_KEEPS_ITS_PLACE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.EBUSY, errno.EXDEV}


def write_whole(fname: str | os.PathLike[str], data: bytes | bytearray) -> None:
    """Write a file, so that whatever happens it has the old content or the new.

    The content is written to a new file in the same folder, synced, and renamed over the old one,
    of which it keeps mode, owner and attributes. A process that is killed in between leaves that
    new file behind, named ".focal_gbm-" and digits. Where there is no regular file to replace (a
    device, a pipe, a mount), where it has further hard links, and where its folder or its owner
    forbid it, the content is written into what is there.

    Parameters
    ----------
    fname : str or path
        A symbolic link stands for what it points to; "~" for the home folder.
    data : bytes
        The content.

    Raises
    ------
    OSError
        Where it could not be written.
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
            error.filename = os.fspath(fname)  # and not that of the temporary file
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
    # Where standard output goes to a file, that file must stay the one that is open.
    if given.absolute().parts[1:2] in (("dev",), ("proc",)):
        return False
    try:
        found = given.stat()
    except FileNotFoundError:
        return True
    is_alone = stat.S_ISREG(found.st_mode) and found.st_nlink == 1
    return is_alone and os.access(target, os.W_OK)


def _written_beside(target: Path, data: bytes | bytearray) -> Path:
    """A new file with the content, and with what else the target has."""
    temporary = target.with_name(f".focal_gbm-{secrets.token_hex(8)}")
    # A new file gets what the process's umask leaves.
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
