"""Who has a TCP port, as far as Linux lets us see it."""

from pathlib import Path

_LISTENING = "0A"


def owner(port: int) -> str | None:
    """Name the process that listens on a port: `nginx (pid 123)`; None where it cannot be seen."""
    inodes = _listening(port)
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            links = {link.readlink().name for link in (entry / "fd").iterdir()}
            if any(f"socket:[{inode}]" in links for inode in inodes):
                return f"{(entry / 'comm').read_text().strip()} (pid {entry.name})"
        except OSError:
            continue  # another user's, or gone meanwhile
    return None


def _listening(port: int) -> set[str]:
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            rows = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for row in rows:
            columns = row.split()
            if columns[3] == _LISTENING and int(columns[1].rpartition(":")[2], 16) == port:
                inodes.add(columns[9])
    return inodes
