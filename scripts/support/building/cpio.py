"""An initramfs as the kernel takes it: a cpio archive in the newc format.

Not compressed: it is read from memory, and unpacking costs boot time.
"""

import os
import stat
from dataclasses import dataclass, field

MAGIC = "070701"
TRAILER = "TRAILER!!!"
FIRST_INODE = 1


@dataclass
class Archive:
    """Files, directories and links, in the order in which they were added."""

    _chunks: list[bytes] = field(default_factory=list)
    _directories: set[str] = field(default_factory=set)
    _inode: int = FIRST_INODE

    def directory(self, path: str) -> None:
        """Add a directory and those above it; adding one again does nothing."""
        if path and path not in self._directories:
            self.directory(path.rpartition("/")[0])
            self._directories.add(path)
            self._entry(path, stat.S_IFDIR | 0o755, b"")

    def file(self, path: str, data: bytes, executable: bool = False) -> None:
        """Add a regular file and the directories above it."""
        self.directory(path.rpartition("/")[0])
        self._entry(path, stat.S_IFREG | (0o755 if executable else 0o644), data)

    def link(self, path: str, target: str) -> None:
        """Add a symbolic link."""
        self.directory(path.rpartition("/")[0])
        self._entry(path, stat.S_IFLNK | 0o777, os.fsencode(target))

    def finish(self) -> bytes:
        """The whole archive; nothing may be added after."""
        self._entry(TRAILER, 0, b"")
        return b"".join(self._chunks)

    def _entry(self, name: str, mode: int, data: bytes) -> None:
        encoded = os.fsencode(name) + b"\0"
        links = 2 if stat.S_ISDIR(mode) else 1
        # ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check
        fields = [self._inode, mode, 0, 0, links, 0, len(data), 0, 0, 0, 0, len(encoded), 0]
        header = MAGIC + "".join(f"{value:08X}" for value in fields)
        self._inode += 1
        for part in (header.encode() + encoded, data):
            self._chunks.append(part + b"\0" * (-len(part) % 4))
