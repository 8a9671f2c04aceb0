"""`python -m evoprompt.serve`: what `evoprompt serve` does."""

from evoprompt.commands.start import end_with

if __name__ == "__main__":
    end_with("serve")
