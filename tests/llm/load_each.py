"""Load models in a process of its own, where the hub's environment variables are read afresh.

`python load_each.py '[{"name": ...}, ...]'` prints a JSON line for each: fingerprint or error, and the seconds it took.
"""

from __future__ import annotations

import json
import os
import sys
import time

from evoprompt.errors import UserError
from evoprompt.llm import ModelSpec, load_model


def main(requests: list[dict]) -> None:
    for request in requests:
        token = request.pop("token", None)
        if token:
            os.environ["HF_TOKEN"] = token
        else:
            os.environ.pop("HF_TOKEN", None)
        start = time.monotonic()
        try:
            answer = {"fingerprint": load_model(ModelSpec(device="cpu", **request)).fingerprint, "error": None}
        except UserError as error:
            answer = {"fingerprint": None, "error": str(error)}
        print(json.dumps({**answer, "seconds": time.monotonic() - start}), flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
