"""Bytes of memory that a process holds, on Linux."""

from pathlib import Path


def now(process: int | str = "self") -> int:
    """Held at this moment."""
    return _status("VmRSS", process)


def peak() -> int:
    """Most held by this process since it began, or since `begin_anew`."""
    return _status("VmHWM", "self")


def begin_anew() -> None:
    """Forget the peak so far."""
    Path("/proc/self/clear_refs").write_text("5")


def _status(name: str, process: int | str) -> int:
    lines = Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(name)).split()[1])
