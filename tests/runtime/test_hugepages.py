"""Memory that is filled gets huge pages, other memory does not, and nothing that is kept there changes."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap

import pytest

from ringwise.runtime.hugepages import HUGE_BYTES, available, candidates

MAPS = """\
55d000000000-55d000200000 r-xp 00000000 fe:00 1234 /usr/bin/python3
55d000400000-55d000a00000 rw-p 00000000 00:00 0 [heap]
7f0000000000-7f0000100000 rw-p 00000000 00:00 0
7f0000100000-7f0000300000 rw-p 00000000 00:00 0
7f0000300000-7f0000400000 ---p 00000000 00:00 0
7f0000400000-7f0000600000 rw-s 00000000 00:05 7 /memfd:shared
7f0000600000-7f00007ff000 rw-p 00000000 00:00 0
7ffc00000000-7ffc00400000 rw-p 00000000 00:00 0 [stack]
"""


def test_only_private_memory_of_no_file_is_a_candidate_and_neighbours_count_as_one() -> None:
    heap = [0x55D000400000, 0x55D000600000, 0x55D000800000]
    assert list(candidates(MAPS)) == [*heap, 0x7F0000000000]
    assert list(candidates("")) == []


@pytest.mark.skipif(not available(), reason="this machine has no huge pages for who asks")
def test_what_is_filled_gets_huge_pages_and_stays_as_it_is() -> None:
    program = """
        from pathlib import Path
        from ringwise.runtime.hugepages import HugePages
        held = {number: b"%0100d" % number for number in range(300_000)}
        huge = HugePages().collapse()
        assert all(held[number] == b"%0100d" % number for number in range(300_000))
        print(huge, Path("/proc/self/smaps_rollup").read_text())
    """
    run = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=True)
    huge, rollup = run.stdout.split(" ", 1)
    found = re.search(r"AnonHugePages: +(\d+) kB", rollup)
    assert found is not None
    if int(huge) == 0:
        pytest.skip("the kernel (before 6.1, or out of free pages) refused every huge page")
    assert int(found[1]) * 1024 >= int(huge) * HUGE_BYTES > 10_000_000
