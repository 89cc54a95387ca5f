"""App events as they are generated: the same bytes for a seed, the chain's own frequencies, and copies as announced.

What is expected of the chain is computed exactly, from its fundamental matrix; how far a count may be from that, from
the variance that follows from the same matrix.
"""

import collections
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from datetime import datetime
from fractions import Fraction

import pytest

import aws
import template as cfn

sys.path.insert(0, str(cfn.CLOUD / "lib"))
import app_events  # noqa: E402

SESSIONS = 20_000
DEVIATIONS_MAX = 5  # Once in 1.7 million.
# Of `--sessions 2000`. It changes only when the events are meant to.
BYTES_OF_SEED_1 = "7a311840cbfe36c9e42e6d419e7dd987feb2375b5668cb05b0b849136ea0e226"
PYTHONS = [name for name in ("python3.9", "python3.10", "python3.12", "python3.13", "python3.14")
           if shutil.which(name) and subprocess.run([name, "--version"], capture_output=True).returncode == 0]


def generated(*words, python=sys.executable, **more):
    program = cfn.CLOUD / "lib/generate_events.py"
    return subprocess.run([python, "-B", program, *words], capture_output=True, check=True, **more)


@pytest.fixture(scope="module")
def made():
    plan = app_events.planned(SESSIONS, 1, "0.03", "2025-07-01", 10)
    return list(app_events.events(plan))


@pytest.fixture(scope="module")
def once(made):
    """Each event's line, as data, in the order in which they were made."""
    return [json.loads(event.line) for event in made if not event.copy]


def fundamental(transitions):
    """(I - Q)^-1 by Gauss and Jordan, exactly: how often a session that is at a row's event comes to a column's."""
    names = list(transitions)
    size = len(names)
    rows = [[Fraction(name == other) - Fraction(transitions[name].get(other, 0), 100) for other in names]
            + [Fraction(name == other) for other in names] for name in names]
    for place in range(size):
        pivot = next(n for n in range(place, size) if rows[n][place])
        rows[place], rows[pivot] = rows[pivot], rows[place]
        rows[place] = [value / rows[place][place] for value in rows[place]]
        for n in range(size):
            if n != place:
                rows[n] = [value - rows[n][place] * own for value, own in zip(rows[n], rows[place], strict=True)]
    return {name: dict(zip(names, rows[n][size:], strict=True)) for n, name in enumerate(names)}


def expected_and_variance(transitions, start):
    """Of the number of a session's events. Its end is an event too, after which nothing comes."""
    matrix = fundamental(transitions)
    steps = {name: sum(row.values()) for name, row in matrix.items()}
    squared = sum(2 * matrix[start][name] * steps[name] for name in transitions) - steps[start]
    return steps[start], squared - steps[start] ** 2


def test_a_session_has_seven_events_by_the_fundamental_matrix():
    mean, variance = expected_and_variance(app_events.TRANSITIONS, app_events.START)
    visits = fundamental(app_events.TRANSITIONS)[app_events.START]
    assert (mean, 100_000 * mean) == (7, 700_000)
    assert visits == {"session_start": 1, "overview_opened": Fraction(25, 9), "history_opened": Fraction(10, 9),
                      "live_opened": Fraction(10, 9), "session_end": 1}
    assert variance == 20


def test_as_many_events_come_as_the_chain_expects(once):
    mean, variance = expected_and_variance(app_events.TRANSITIONS, app_events.START)
    assert abs(len(once) - SESSIONS * mean) < DEVIATIONS_MAX * float(SESSIONS * variance) ** 0.5


def sessions_of(lines):
    found = collections.defaultdict(list)
    for line in lines:
        found[line["session_id"]].append(line)
    return found


def test_only_what_may_follow_follows_and_as_often_as_it_should(once):
    sessions = sessions_of(once)
    assert len(sessions) == SESSIONS
    followed = collections.Counter()
    for lines in sessions.values():
        names = [line["event_name"] for line in lines]
        assert (names[0], names[-1]) == ("session_start", "session_end")
        assert [line["position"] for line in lines] == list(range(len(lines)))
        assert len({line["user_id"] for line in lines}) == 1
        followed.update(zip(names, names[1:]))
    table = {(name, other): share for name, row in app_events.TRANSITIONS.items() for other, share in row.items()}
    assert set(followed) == set(table)
    for (name, other), share in table.items():
        left = sum(count for (before, _), count in followed.items() if before == name)
        spread = (left * share * (100 - share) / 10_000) ** 0.5
        assert abs(followed[name, other] - left * share / 100) <= DEVIATIONS_MAX * spread, (name, other)


def test_times_follow_each_other_and_days_are_those_asked_for(once):
    times = [line["timestamp"] for line in once]
    assert times == sorted(times)
    assert {len(time) for time in times} == {24}
    assert all(app_events.written(int(datetime.fromisoformat(t).timestamp() * 1000 + 0.5)) == t for t in times[::997])
    begun = collections.Counter(line["timestamp"][:10] for line in once if line["position"] == 0)
    assert begun == {f"2025-07-{day:02}": SESSIONS // 10 for day in range(1, 11)}
    # What was under way at the last midnight goes on.
    assert {time[:10] for time in times} - set(begun) <= {"2025-07-11"}
    for lines in sessions_of(once[:20_000]).values():
        at = [datetime.fromisoformat(line["timestamp"]).timestamp() for line in lines]
        assert all(0.999 < later - sooner < 60.001 for sooner, later in zip(at, at[1:]))


def test_an_event_knows_its_line(made):
    for event in made[:5_000]:
        line = json.loads(event.line)
        assert (event.name, event.day, event.user_id) == (line["event_name"], line["timestamp"][:10], line["user_id"])


@pytest.mark.parametrize("share", ["0", "0.01", "0.3333", "1"])
def test_copies_are_exact_and_as_many_as_announced(share):
    plan = app_events.planned(500, 4, share, "2025-07-01", 1)
    found = list(app_events.events(plan))
    lines = collections.Counter(event.line for event in found)
    unique = sum(not event.copy for event in found)
    assert len(lines) == unique == len({json.loads(line)["event_id"] for line in lines})
    assert sum(event.copy for event in found) == int(unique * Fraction(share))
    assert max(lines.values()) == (1 if share == "0" else 2)
    first = {}
    for place, event in enumerate(found):
        assert event.copy == (event.line in first)
        if event.copy:
            assert place - first[event.line] < 2 * app_events.COPY_BLOCK_EVENTS
        first.setdefault(event.line, place)


def test_copies_are_not_those_of_one_place(made):
    """Each tenth of a block has about a tenth of its copies."""
    place = {event.line: n for n, event in enumerate(event for event in made if not event.copy)}
    tenths = collections.Counter(place[event.line] % 1_000 // 100 for event in made if event.copy)
    total = sum(tenths.values())
    assert all(abs(count - total / 10) < DEVIATIONS_MAX * (total * 0.09) ** 0.5 for count in tenths.values())


@pytest.mark.parametrize("python", [sys.executable, *PYTHONS])
def test_a_seed_gives_the_same_bytes_on_each_python(python):
    bytes_ = [generated("--sessions=2000", python=python, env=os.environ | {"PYTHONHASHSEED": seed}).stdout
              for seed in ("1", "2")]
    assert [hashlib.sha256(one).hexdigest() for one in bytes_] == [BYTES_OF_SEED_1] * 2


def test_another_seed_gives_other_sessions():
    one, other = (generated("--sessions=50", f"--seed={seed}").stdout.splitlines() for seed in (1, 2))
    assert not set(one) & set(other)


def test_what_was_announced_is_what_was_written():
    run = generated("--sessions=300", "--duplicates=0.1", "--days=3", "--from=2024-02-28")
    lines = run.stdout.splitlines()
    unique, total = len(set(lines)), len(lines)
    assert run.stderr.decode() == (
        f"300 sessions: {unique} events and {unique // 10} of them a second time, {total} lines written\n")
    assert total == unique + unique // 10
    assert {json.loads(line)["timestamp"][:10] for line in lines} >= {"2024-02-28", "2024-02-29", "2024-03-01"}


def test_memory_holds_the_sessions_under_way_and_no_others(monkeypatch):
    """Sessions an hour apart, and five in a minute: as many are under way as their length of some minutes allows."""
    most = 0
    real = app_events.heapq.heappush

    def heappush(heap, item):
        nonlocal most
        real(heap, item)
        most = max(most, len(heap))

    monkeypatch.setattr(app_events.heapq, "heappush", heappush)
    collections.deque(app_events.unique_events(app_events.planned(1_000, 1, "0", "2025-01-01", 45)), maxlen=0)
    assert most <= 3
    collections.deque(app_events.unique_events(app_events.planned(7_200, 1, "0", "2025-01-01", 1)), maxlen=0)
    assert 10 < most < 60


@pytest.mark.parametrize(("transitions", "why"), [
    ({"a": {"a": 40, "b": 50}, "b": {}}, "sums to 90"),
    ({"a": {"b": 110, "a": -10}, "b": {}}, "not above 0"),
    ({"a": {"c": 100}, "b": {}}, "not in the table"),
    ({"a": {"b": 100}, "b": {"a": 100}, "c": {}}, "never end after a, b"),
    ({"b": {}}, "a is not in the table"),
])
def test_a_table_that_is_no_chain_is_refused(transitions, why):
    with pytest.raises(ValueError, match=why):
        app_events.Chain(transitions, "a")


@pytest.mark.parametrize(("words", "why"), [
    ({"sessions": 0}, "one session"), ({"days": 91}, "days are from 1 to 90"), ({"days": 0}, "days are"),
    ({"duplicates": "1.5"}, "from 0 to 1"), ({"duplicates": "-0.1"}, "from 0 to 1"),
    ({"duplicates": "1/0"}, "from 0 to 1"), ({"duplicates": "some"}, "from 0 to 1"),
    ({"first": "2025-02-30"}, "a day is written"), ({"first": "9999-12-31"}, "a day is written"),
])
def test_a_plan_that_cannot_be_is_refused(words, why):
    given = {"sessions": 1, "seed": 1, "duplicates": "0", "first": "2025-07-01", "days": 1}
    with pytest.raises(ValueError, match=why):
        app_events.planned(**given | words)


def test_the_template_names_the_chains_events():
    default = cfn.load("events")["Parameters"]["EventNames"]["Default"]
    assert sorted(default.split(",")) == sorted(app_events.TRANSITIONS)
    assert app_events.DAYS_MAX * len(app_events.TRANSITIONS) < 500


def test_the_scripts_days_are_the_saved_queries_own():
    """So that a saved query answers to what `generate-events.sh` makes by itself."""
    resources = cfn.load("events")["Resources"]
    days = {json.loads(line)["timestamp"][:10] for line in generated("--sessions=200").stdout.splitlines()}
    for name in ("EventCounts", "EventTransitions"):
        text = resources[name]["Properties"]["QueryString"]["Fn::Sub"]
        first, last = re.search(r"BETWEEN '([0-9-]+)' AND '([0-9-]+)'", text).groups()
        assert all(first <= day <= last for day in days if day != "2025-07-11")
        assert min(days) == first


def test_a_reader_that_has_enough_ends_it_quietly():
    script = aws.BIN / "generate-events.sh"
    command = f"{script} --sessions 3000 | head -n 1 | wc -l"
    run = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert (run.stdout.strip(), run.stderr) == ("1", "")
