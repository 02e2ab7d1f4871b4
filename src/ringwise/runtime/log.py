"""Log lines that a person can read and a program can split: time, level, node, event, then key=value pairs.

    2025-11-21 01:19:02.123 info  n1 link_up peer=n2 address=127.0.0.1:9380

Only the shell logs; the core returns its decisions as data.
"""

from __future__ import annotations

import logging
import sys
import time

_logger = logging.getLogger("ringwise")


class _Line(logging.Formatter):
    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(record.created))
        text = f"{moment}.{int(record.msecs):03d} {record.levelname.lower():<7} {self._name} {record.getMessage()}"
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        return text


def set_up(name: str) -> None:
    """Send the lines of this process to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Line(name))
    _logger.handlers[:] = [handler]
    _logger.setLevel(logging.INFO)
    _logger.propagate = False


def info(event: str, **fields: object) -> None:
    _logger.info(_text(event, fields))


def warning(event: str, **fields: object) -> None:
    _logger.warning(_text(event, fields))


def error(event: str, cause: BaseException | None = None, **fields: object) -> None:
    """`cause` adds its traceback: use it for what should never happen."""
    _logger.error(_text(event, fields), exc_info=cause)


def _text(event: str, fields: dict[str, object]) -> str:
    return " ".join([event, *(f"{key}={_value(value)}" for key, value in fields.items())])


def _value(value: object) -> str:
    text = value.hex() if isinstance(value, bytes) else str(value)
    return repr(text) if not text or any(character.isspace() for character in text) else text
