"""The optimizers under comparison, each with its library's defaults, driven through a counted objective."""

from benchmarks.peers.methods import METHODS, Method, select

__all__ = ["METHODS", "Method", "select"]
