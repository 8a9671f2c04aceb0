"""`python -m evoprompt.run`: what `evoprompt run` does."""

from evoprompt.commands.start import end_with

if __name__ == "__main__":
    end_with("run")
