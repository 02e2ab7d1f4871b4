"""Ringwise: a leaderless, replicated key-value store behind the Redis protocol."""

__version__ = "0.1.0"
