"""The built-in processors, on the public API alone (:mod:`ingest.processors`)."""
