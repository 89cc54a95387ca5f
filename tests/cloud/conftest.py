"""The lake that the queries are tried on: delivered once, then read by Trino and by DuckDB."""

import copy
import random
from types import SimpleNamespace

import pytest

import aws
import fleet
import lake
import search

MISSING = {1000, 1001, 1002, 2000}  # Sequences of the living room that the cloud never gets.


@pytest.fixture(scope="session")
def delivered(tmp_path_factory):
    """Lines lost on the way, lines sent twice, a day that arrives late, one line that fits no table."""
    root = tmp_path_factory.mktemp("lake")
    written = fleet.small_fleet()
    kept = [line for line in written if line["gateway_id"] != "living-room" or line["sequence"] not in MISSING]
    random_ = random.Random(7)
    repeated = random_.sample(kept, len(kept) // 20)
    late = [line for line in kept if line["timestamp"] < "2025-07-16"]
    punctual = [line for line in kept if line["timestamp"] >= "2025-07-16"]
    poison = copy.deepcopy(kept[0]) | {"heart_rate": "fast", "reading_id": "00000000000000aa-poison"}
    firehose = lake.Firehose(root, FirstDay="2025-03-01")
    firehose.deliver(fleet.records(punctual))
    firehose.deliver([*fleet.records(late + repeated), fleet.as_record([poison])])
    return SimpleNamespace(root=root, lines=kept, repeated=len(repeated), firehose=firehose, poison=poison)


@pytest.fixture(scope="session")
def trino(delivered):
    with lake.Trino(delivered.root, FirstDay="2025-03-01") as engine:
        yield engine


@pytest.fixture(scope="session")
def duck(delivered):
    return lake.Duck(delivered.root)


@pytest.fixture(scope="session")
def opensearch():
    with search.OpenSearch() as node:
        yield node


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """An AWS account; a test that needs it empty resets it."""
    account = aws.Account(tmp_path_factory.mktemp("aws"))
    yield account
    account.close()


@pytest.fixture(params=["trino", "duck"])
def engine(request):
    return request.getfixturevalue(request.param)
