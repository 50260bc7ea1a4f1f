"""kombu's Redis transport, with leases by Redis's clock instead of each node's own.

kombu notes a message that was taken, but not yet acknowledged, with the time of the node that took it
(``unacked_index``), and any node gives back what is older than the visibility timeout by *its* clock. With
clocks hours apart a lease would seem to have run out at once, or never. Here both times are Redis's.
"""

from __future__ import annotations

from typing import Any

import kombu.transport
from kombu.transport import redis as kombu_redis
from kombu.utils.json import dumps

LEASE = """
-- KEYS: unacked_index, unacked · ARGV: tag, message
local now = redis.call('TIME')
redis.call('ZADD', KEYS[1], now[1] + now[2] / 1e6, ARGV[1])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
return 1
"""

RENEW = """
-- KEYS: unacked_index · ARGV: tag, ... · how many of these leases were still ours
local now = redis.call('TIME')
local kept = 0
for i = 1, #ARGV do
  if redis.call('ZSCORE', KEYS[1], ARGV[i]) then
    redis.call('ZADD', KEYS[1], 'XX', now[1] + now[2] / 1e6, ARGV[i])
    kept = kept + 1
  end
end
return kept
"""

RUN_OUT = """
-- KEYS: unacked_index · ARGV: visibility timeout in seconds · the tags whose lease has run out
local now = redis.call('TIME')
return redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now[1] + now[2] / 1e6 - tonumber(ARGV[1]), 'LIMIT', 0, 1000)
"""


class LeaseQoS(kombu_redis.QoS):
    """Unacknowledged messages as leases that Redis times."""

    channel: Any

    def append(self, message: Any, delivery_tag: str) -> None:
        """Take the lease of a message that was just received."""
        info = message.delivery_info
        text = dumps([message._raw, info["exchange"], info["routing_key"]])
        with self.channel.conn_or_acquire() as client:
            client.eval(LEASE, 2, self.unacked_index_key, self.unacked_key, delivery_tag, text)
        super(kombu_redis.QoS, self).append(message, delivery_tag)

    def renew(self) -> int:
        """Renew the leases of all messages that this process holds; how many were still its own."""
        tags = list(self._delivered or ())
        if not tags:
            return 0
        with self.channel.conn_or_acquire() as client:
            return int(client.eval(RENEW, 1, self.unacked_index_key, *tags))

    def restore_visible(self, start: int = 0, num: int | None = None, interval: int = 1) -> None:
        """Give back to the queue what other nodes took and let run out."""
        with self.channel.conn_or_acquire() as client:
            for tag in client.eval(RUN_OUT, 1, self.unacked_index_key, self.visibility_timeout):
                self.restore_by_tag(tag, client)


class LeaseChannel(kombu_redis.Channel):
    """kombu's channel with our leases."""

    QoS = LeaseQoS


class LeaseTransport(kombu_redis.Transport):
    """kombu's Redis transport with our leases; URLs begin with ``ingestredis``."""

    Channel = LeaseChannel


def register() -> None:
    """Let kombu find the transport by the scheme of its URL. May be repeated."""
    aliases = kombu.transport.TRANSPORT_ALIASES
    aliases["ingestredis"] = aliases["ingestrediss"] = f"{__name__}:LeaseTransport"


def broker_url(url: str) -> str:
    """kombu's form of a Redis URL in redis-py's form."""
    scheme, _, rest = url.partition("://")
    return {"redis": "ingestredis://", "rediss": "ingestrediss://", "unix": "ingestredis+socket://"}[
        scheme
    ] + rest
