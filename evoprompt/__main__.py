"""`python -m evoprompt COMMAND ...`: what `evoprompt COMMAND ...` does."""

import sys

from evoprompt.commands.start import main

if __name__ == "__main__":
    sys.exit(main())
