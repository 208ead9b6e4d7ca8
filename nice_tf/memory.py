"""How much main memory there is to be had."""

import contextlib
import os
import pathlib
import re


def available_memory() -> int:
    """Bytes of main memory that this process can still have: what the machine and its control group
    leave free.
    """
    limits = [_free_of_machine(), *_free_of_group()]
    return max(min(limits), 0)


def _free_of_machine():
    meminfo = pathlib.Path("/proc/meminfo")
    found = (
        re.search(r"MemAvailable:\s+(\d+) kB", meminfo.read_text()) if meminfo.exists() else None
    )
    if found:
        return int(found[1]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _free_of_group(root: pathlib.Path = pathlib.Path("/sys/fs/cgroup")) -> list[int]:
    """What a container may still take, by either version of control groups; else nothing."""
    for limit, usage, statistics, prefix in (
        ("memory.max", "memory.current", "memory.stat", ""),
        (
            "memory/memory.limit_in_bytes",
            "memory/memory.usage_in_bytes",
            "memory/memory.stat",
            "total_",
        ),
    ):
        with contextlib.suppress(OSError, ValueError):  # "max" is no limit
            found = dict(line.split() for line in (root / statistics).read_text().splitlines())
            # Pages of files count as used, but are given back as soon as memory is short.
            cache = sum(
                int(found.get(f"{prefix}{kind}_file", 0)) for kind in ("active", "inactive")
            )
            used = int((root / usage).read_text()) - cache
            return [int((root / limit).read_text()) - used]
    return []
