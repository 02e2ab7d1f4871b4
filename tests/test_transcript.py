"""The reader of pages with commands: it must notice when a command prints something else."""

from __future__ import annotations

from pathlib import Path

import pytest
from scripts.transcript import Differs, Reader, Step, matches, steps_of

PAGE = """\
# A page

```console
$ echo one  # soon
one
$ printf 'a\\nb\\n' |
> cat
a
...
```

```python
$ not a command
```
"""


def test_a_page_is_its_commands_with_what_they_print() -> None:
    first, second = steps_of(PAGE)
    assert (first.command, first.expected, first.soon) == ("echo one  # soon", ["one"], True)
    assert (second.command, second.expected, second.soon) == ("printf 'a\\nb\\n' |\ncat", ["a", "..."], False)


@pytest.mark.parametrize(
    ("expected", "printed", "same"),
    [
        (["one"], "one\n", True),
        (["one"], "one  \n\n", True),
        (["one"], "two\n", False),
        (["one"], "one\ntwo\n", False),
        (["one", "two"], "one\n", False),
        (["pid ..., up"], "pid 17, up\n", True),
        (["pid ..., up"], "pid 17, down\n", False),
        (["..."], "", True),
        (["a", "...", "z"], "a\nb\nc\nz\n", True),
        (["a", "...", "z"], "a\nb\nc\n", False),
        (["(a)"], "a\n", False),
    ],
)
def test_what_is_printed_is_compared_line_by_line(expected: list[str], printed: str, same: bool) -> None:
    assert matches(expected, printed) is same


def test_a_difference_is_told_with_both_sides() -> None:
    with Reader(None, None) as reader:
        assert reader.do(Step("echo one", ["one"])) == "one\n"
        with pytest.raises(Differs, match=r"(?s)echo two.*the page shows\s+one.*it printed\s+two"):
            reader.do(Step("echo two", ["one"]))


def test_on_other_ports_commands_are_moved_and_what_they_print_is_moved_back(tmp_path: Path) -> None:
    with Reader(20_000, tmp_path) as reader:
        assert reader.do(Step("echo 7379 8380 9381 6379; echo 7379", ["7379 8380 9381 6379", "7379"]))
        assert reader._moved("redis-cli -p 7380") == "redis-cli -p 20001"
