"""Experts: evolved soft prompts as folders that PEFT loads."""

from evoprompt.experts.artifact import Expert, read_expert, served_by_peft, write_expert

__all__ = ["Expert", "read_expert", "served_by_peft", "write_expert"]
