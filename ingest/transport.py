"""kombu's Redis transport, with leases by Redis's clock instead of each node's own.

kombu notes a message that was taken, but not yet acknowledged, with the time of the node that took it
(``unacked_index``), and any node gives back what is older than the visibility timeout by *its* clock. With
clocks hours apart a lease would seem to have run out at once, or never. Here both times are Redis's.

Each step is one script, and removes before it adds: a Redis that has reached ``maxmemory`` lets it, for it
takes no more memory than before. A full Redis stops the work, not its bookkeeping.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, cast

import kombu.transport
import redis
import redis.exceptions
from kombu.transport import redis as kombu_redis
from kombu.utils.json import dumps, loads

log = logging.getLogger(__name__)

LEASE = """
-- KEYS: unacked_index, unacked · ARGV: tag, message
local now = redis.call('TIME')
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('ZADD', KEYS[1], now[1] + now[2] / 1e6, ARGV[1])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
return 1
"""

RENEW = """
-- KEYS: unacked_index, unacked, job · ARGV: tag, message, tag, message, ... · how many leases are ours
-- A lease that Redis forgot, or that another gave back meanwhile, is taken anew while the job takes work:
-- a message keeps its tag, so whoever takes it next has the same lease, and the first acknowledgement ends it.
local now = redis.call('TIME')
local state = redis.call('HGET', KEYS[3], 'state')
local kept = 0
for i = 1, #ARGV, 2 do
  if redis.call('ZREM', KEYS[1], ARGV[i]) == 1 or state == 'uploading' or state == 'preparing' then
    redis.call('ZADD', KEYS[1], now[1] + now[2] / 1e6, ARGV[i])
    redis.call('HSETNX', KEYS[2], ARGV[i], ARGV[i + 1])
    kept = kept + 1
  end
end
return kept
"""

END = """
-- KEYS: unacked_index, unacked · ARGV: tag
redis.call('ZREM', KEYS[1], ARGV[1])
return redis.call('HDEL', KEYS[2], ARGV[1])
"""

GIVE_BACK = """
-- KEYS: unacked_index, unacked, queue · ARGV: tag, lease as read or '', message, RPUSH (taken next) or LPUSH (last)
if (redis.call('HGET', KEYS[2], ARGV[1]) or '') ~= ARGV[2] then return 0 end
redis.call('ZREM', KEYS[1], ARGV[1])
if redis.call('HDEL', KEYS[2], ARGV[1]) == 1 then redis.call(ARGV[4], KEYS[3], ARGV[3]) end
return 1
"""

RUN_OUT = """
-- KEYS: unacked_index · ARGV: visibility timeout in seconds · the tags whose lease has run out
-- None has where Redis itself was away: whoever had one gets as long again to come back and renew it.
local info = redis.pcall('INFO', 'server')  -- an ACL may forbid it
local up = type(info) == 'string' and string.match(info, 'uptime_in_seconds:(%d+)')
if up and tonumber(up) < tonumber(ARGV[1]) then return {} end
local now = redis.call('TIME')
return redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now[1] + now[2] / 1e6 - tonumber(ARGV[1]), 'LIMIT', 0, 1000)
"""


def lease_text(message: Any) -> str:
    """A message as its lease keeps it, to be queued again where the lease runs out."""
    return dumps([message._raw, message.delivery_info["exchange"], message.delivery_info["routing_key"]])


def renew(client: redis.Redis, queue: str, job_key: str, leases: Mapping[str, str]) -> int:
    """Renew leases, whichever channel took them.

    Args:
        client: any connection to the Redis of the queue.
        queue: the name of the queue.
        job_key: the key of the job's hash, whose ``state`` says whether it takes work.
        leases: by its delivery tag, each message as :func:`lease_text` has it.

    Returns:
        How many leases are ours now.
    """
    if not leases:
        return 0
    flat = [text for lease in leases.items() for text in lease]
    kept: Any = client.eval(RENEW, 3, *lease_keys(queue), job_key, *flat)
    return int(kept)


def lease_keys(queue: str) -> tuple[str, str]:
    """The keys of a queue's leases: when each was renewed, and its message."""
    return f"{queue}:unacked_index", f"{queue}:unacked"


class LeaseQoS(kombu_redis.QoS):
    """Unacknowledged messages as leases that Redis times.

    A channel that is closed keeps its leases: the node may still work on them, and has lost its connection
    only. What is to go back when a node stops is given back by :meth:`give_back`.
    """

    channel: Any
    _flush: Any
    restore_at_shutdown = False

    def append(self, message: Any, delivery_tag: str) -> None:
        """Take the lease of a message that was just received."""
        self._run(LEASE, delivery_tag, lease_text(message))
        super(kombu_redis.QoS, self).append(message, delivery_tag)

    def ack(self, delivery_tag: str) -> None:
        """The message is done with."""
        self._run(END, delivery_tag)
        super(kombu_redis.QoS, self).ack(delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """The message is not done with, and goes to the end of the queue; without ``requeue``, nowhere."""
        if requeue:
            self.restore_by_tag(delivery_tag, leftmost=True)
        else:
            self._run(END, delivery_tag)
        super(kombu_redis.QoS, self).ack(delivery_tag)

    def restore_by_tag(self, tag: str, client: Any = None, leftmost: bool = False) -> None:
        """Give a message back to the queue, to be taken next or (``leftmost``) last."""
        with self.channel.conn_or_acquire(client) as connected:
            text = connected.hget(self.unacked_key, tag) or b""
            message, _, queue = loads(text) if text else ("", "", "")
            push = "LPUSH" if leftmost else "RPUSH"
            keys = (self.unacked_index_key, self.unacked_key, queue)
            connected.register_script(GIVE_BACK)(keys=keys, args=(tag, text, dumps(message), push))

    def restore_visible(self, start: int = 0, num: int | None = None, interval: int = 1) -> None:
        """Give back to the queue what other nodes took and let run out."""
        with self.channel.conn_or_acquire() as client:
            try:
                run_out = client.register_script(RUN_OUT)
                for tag in run_out(keys=[self.unacked_index_key], args=[self.visibility_timeout]):
                    self.restore_by_tag(tag, client)
            except redis.exceptions.ResponseError as error:
                log.warning("leases that have run out stay for now: %s", error)

    def give_back(self) -> int:
        """Give back to the queue what this channel received and nobody acknowledged; how many they were."""
        self._flush()
        tags = list(self._delivered or ())
        for tag in tags:
            self.restore_by_tag(tag)
            super(kombu_redis.QoS, self).ack(tag)
        return len(tags)

    def _run(self, script: str, *arguments: str) -> None:
        with self.channel.conn_or_acquire() as client:
            client.register_script(script)(keys=(self.unacked_index_key, self.unacked_key), args=arguments)


class LeaseChannel(kombu_redis.Channel):
    """kombu's channel with our leases."""

    QoS = LeaseQoS

    def _create_client(self, asynchronous: bool = False) -> redis.Redis:
        """One client for each pool of connections: to make one for each question costs as much as to ask it."""
        kombu_s: Any = super()
        if asynchronous:
            return cast("redis.Redis", kombu_s._create_client(asynchronous=True))
        channel: Any = self
        pool, client = self.__dict__.get("_pool_and_client", (None, None))
        if client is None or pool is not channel.pool:
            client = kombu_s._create_client()
            self.__dict__["_pool_and_client"] = (channel.pool, client)
        return cast("redis.Redis", client)

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:
        """How to connect, remembered: what was received here is acknowledged even after the channel was closed."""
        known: dict[bool, dict[str, Any]] = self.__dict__.setdefault("_known_connparams", {})
        if asynchronous not in known:
            kombu_s: Any = super()
            known[asynchronous] = kombu_s._connparams(asynchronous)
        return dict(known[asynchronous])


class LeaseTransport(kombu_redis.Transport):
    """kombu's Redis transport with our leases; URLs begin with ``ingestredis``."""

    Channel = LeaseChannel


def register() -> None:
    """Let kombu find the transport by the scheme of its URL. May be repeated."""
    aliases = kombu.transport.TRANSPORT_ALIASES
    aliases["ingestredis"] = aliases["ingestrediss"] = f"{__name__}:LeaseTransport"


def broker_url(url: str) -> str:
    """kombu's form of a Redis URL in redis-py's form. To kombu a ``;`` would begin another server's URL."""
    scheme, _, rest = url.replace(";", "%3B").partition("://")
    if scheme == "unix":
        path, _, database = rest.partition("?db=")
        return f"ingestredis+socket://{path}?virtual_host={database or 0}"
    return f"ingest{scheme}://{rest}"
