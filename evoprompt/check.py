"""`python -m evoprompt.check`: what `evoprompt check` does."""

from evoprompt.commands.start import end_with

if __name__ == "__main__":
    end_with("check")
