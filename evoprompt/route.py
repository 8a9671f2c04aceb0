"""`python -m evoprompt.route`: what `evoprompt route` does."""

from evoprompt.commands.start import end_with

if __name__ == "__main__":
    end_with("route")
