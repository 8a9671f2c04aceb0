"""The commands: they parse, build and call. `evoprompt run` and `python -m evoprompt.run` are one."""
