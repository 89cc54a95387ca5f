"""A Kinesis that the Kinesis Client Library can read: moto's, over HTTP/2, with what it leaves out.

The library's client speaks HTTP/2 even where no TLS is, which moto's own server does not. Added are

- SubscribeToShard, which is enhanced fan-out: an event stream that lasts SUBSCRIPTION_S instead of five minutes;
- a shard's end: no next iterator, and the shards that follow;
- a split that leaves the parent its records; moto puts them on its children, data and hash key exchanged;
- that a closed shard takes no more; moto puts a record on the first one whose hash keys fit, which is the parent.

DynamoDB beside it is moto's, asked one thing at a time: two conditional writes at once would both find their condition
true, and one would be lost. Not here: throttling, and shards that expire.

    stream_server.py PORT
"""

import asyncio
import base64
import json
import struct
import sys
import threading
import time
import zlib
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

from hypercorn.asyncio import serve
from hypercorn.config import Config
from hypercorn.middleware import AsyncioWSGIMiddleware
from moto.core import DEFAULT_ACCOUNT_ID
from moto.kinesis.models import KinesisBackend, Shard, Stream, kinesis_backends
from moto.kinesis.responses import KinesisResponse
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

SUBSCRIPTION_S = 5
POLL_S = 0.5
BATCH_RECORDS_MAX = 100
BODY_BYTES_MAX = 16 * 1024 * 1024
EVENT_STREAM = "application/vnd.amazon.eventstream"
STRING = 7  # A header's type in an event stream.


def mend_moto() -> None:
    """Shards end and take no more, and a split keeps records where they are."""
    real_records, real_split, real_choice = KinesisResponse.get_records, Stream.split_shard, Stream.get_shard_for_key

    def get_records(self: KinesisResponse) -> Any:
        result = real_records(self)
        answer = result.result
        stream, shard, _ = base64.b64decode(answer["NextShardIterator"]).decode().split(":")[:3]
        follow = following(self.kinesis_backend.describe_stream(None, stream), shard)
        if follow and not answer["Records"]:
            answer |= {"NextShardIterator": None, "ChildShards": follow}
        return result

    def split_shard(self: Stream, name: str, start: str) -> None:
        shard = self.shards[name]
        records, shard.records = shard.records, OrderedDict()
        real_split(self, name, start)
        shard.records = records

    def get_shard_for_key(self: Stream, *key: str) -> Any:
        every = self.shards
        self.shards = {name: shard for name, shard in every.items() if shard.is_open}
        try:
            return real_choice(self, *key)
        finally:
            self.shards = every

    KinesisResponse.get_records = get_records
    Stream.split_shard, Stream.get_shard_for_key = split_shard, get_shard_for_key


def following(stream: Stream, name: str) -> list[dict[str, Any]]:
    """The shards that a closed one became; none of one that is open."""
    children = [one for one in stream.shards.values() if name in (one.parent, one.adjacent_parent)]
    return [
        {"ShardId": child.shard_id, "ParentShards": [name], "HashKeyRange": child.to_json()["HashKeyRange"]}
        for child in children
    ]


def message(kind: str, payload: dict[str, Any]) -> bytes:
    """One event, as the event stream encoding has it: lengths, a checksum, headers, payload, a checksum of it all."""
    body = json.dumps(payload).encode()
    headers = b""
    for name, value in ((":message-type", "event"), (":event-type", kind), (":content-type", "application/json")):
        headers += struct.pack(f"!B{len(name)}sBH", len(name), name.encode(), STRING, len(value)) + value.encode()
    prelude = struct.pack("!II", 16 + len(headers) + len(body), len(headers))
    whole = prelude + struct.pack("!I", zlib.crc32(prelude)) + headers + body
    return whole + struct.pack("!I", zlib.crc32(whole))


def place(shard: Shard, start: dict[str, Any]) -> int:
    """The last sequence number that is not asked for."""
    kind = start["Type"]
    if kind in ("AFTER_SEQUENCE_NUMBER", "AT_SEQUENCE_NUMBER"):
        return int(start["SequenceNumber"]) - (kind == "AT_SEQUENCE_NUMBER")
    return 0 if kind == "TRIM_HORIZON" else shard.get_max_sequence_number()


def events(stream: Stream, shard: Shard, last: int) -> Iterator[dict[str, Any]]:
    """What a subscriber is told; without records where there are none now, which says that it is still one."""
    while True:
        records, last, behind_ms = shard.get_records(str(last), BATCH_RECORDS_MAX)
        follow = following(stream, shard.shard_id)
        event: dict[str, Any] = {
            "Records": [
                {"Data": record.data, "PartitionKey": record.partition_key,
                 "SequenceNumber": str(record.sequence_number), "ApproximateArrivalTimestamp": record.created_at}
                for record in records
            ],
            "ContinuationSequenceNumber": str(last), "MillisBehindLatest": behind_ms,
        }  # fmt: skip
        if follow and not records:
            del event["ContinuationSequenceNumber"]
            yield event | {"ChildShards": follow}
            return
        yield event


async def subscribe(request: dict[str, Any], send: Any) -> None:
    region = request["ConsumerARN"].split(":")[3]
    backend: KinesisBackend = kinesis_backends[DEFAULT_ACCOUNT_ID][region]
    stream = next(one for one in backend.streams.values() if one.get_consumer_by_arn(request["ConsumerARN"]))
    shard = stream.shards[request["ShardId"]]
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", EVENT_STREAM.encode())]})

    async def tell(kind: str, payload: dict[str, Any]) -> None:
        await send({"type": "http.response.body", "body": message(kind, payload), "more_body": True})

    await tell("initial-response", {})
    end = time.monotonic() + SUBSCRIPTION_S
    for event in events(stream, shard, place(shard, request["StartingPosition"])):
        await tell("SubscribeToShardEvent", event)
        if time.monotonic() > end:
            break
        await asyncio.sleep(0 if event["Records"] else POLL_S)
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def body_of(receive: Any) -> bytes:
    body, more = b"", True
    while more:
        part = await receive()
        body, more = body + part.get("body", b""), part.get("more_body", False)
    return body


def application() -> Any:
    """moto, and beside it what it does not know."""
    dispatcher, one_at_a_time = DomainDispatcherApplication(create_backend_app), threading.Lock()

    def in_turn(environ: Any, start_response: Any) -> Any:
        with one_at_a_time:
            return dispatcher(environ, start_response)

    moto = AsyncioWSGIMiddleware(in_turn, max_body_size=BODY_BYTES_MAX)

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        target = dict(scope.get("headers", [])).get(b"x-amz-target", b"")
        if target.endswith(b".SubscribeToShard"):
            await subscribe(json.loads(await body_of(receive)), send)
        else:
            await moto(scope, receive, send)

    return answer


def main() -> None:
    mend_moto()
    config = Config()
    config.bind = [f"127.0.0.1:{sys.argv[1]}"]
    config.accesslog = "-"
    config.access_log_format = "%(s)s %({x-amz-target}i)s by %(a)s"
    asyncio.run(serve(application(), config))


if __name__ == "__main__":
    main()
