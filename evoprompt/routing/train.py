"""`python -m evoprompt.routing.train`: what `evoprompt train` does. Found by name: a room imports no command."""

from importlib import import_module

if __name__ == "__main__":
    import_module("evoprompt.commands.start").end_with("train")
