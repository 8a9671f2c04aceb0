"""The optimizers under comparison, each with its library's defaults, driven through a counted objective."""

from benchmarks.peers.registry import METHODS, Method, select

__all__ = ["METHODS", "Method", "select"]
