"""``python -m ingest.workers``: a node, which loads without looking for garbage: all that it makes by then stays."""

import gc
from importlib import import_module

if __name__ == "__main__":
    gc.disable()
    import_module("ingest.workers.node").main()
