"""What a node tells of its batches to whoever watches (Flower), gathered for a moment."""

from __future__ import annotations

from typing import Any

from celery import bootsteps

from ingest.presence import EVENTS_EVERY_S

EVENTS_AT_ONCE = 1000


class GatherEvents(bootsteps.StartStopStep):
    """Sends the events of batches some times a second.

    Celery sends them in each turn of its loop, which costs a node as much as all else that it does for a message.
    """

    requires = ("celery.worker.consumer.events:Events",)

    def __init__(self, parent: Any, **options: Any) -> None:
        super().__init__(parent, **options)
        self._timer: Any = None

    def start(self, parent: Any) -> None:
        """Begin, each time the consumer has (re)connected."""
        dispatcher = parent.event_dispatcher
        dispatcher.on_send_buffered = None
        dispatcher.buffer_limit = EVENTS_AT_ONCE
        self._timer = parent.timer.call_repeatedly(EVENTS_EVERY_S, dispatcher.flush)

    def stop(self, parent: Any) -> None:
        """Send what is left, as the connection is given up or the node stops."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            parent.event_dispatcher.flush()
