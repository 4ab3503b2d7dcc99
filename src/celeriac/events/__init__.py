"""Events of tasks and workers: sent, received, and gathered into a picture of the fleet."""

from celeriac.events.dispatcher import Event, EventDispatcher
from celeriac.events.receiver import EventReceiver

__all__ = ["Event", "EventDispatcher", "EventReceiver"]
