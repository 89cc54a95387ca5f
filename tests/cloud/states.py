"""Step Functions as far as our state machine needs it: JSONata, tasks that a test answers, time that costs nothing.

What must hold: a state, a field or an answer that this does not know is refused, never passed over. How long a retry
waits is its upper bound, since what is tried here is that everything ends.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jsonata

KNOWN = {
    "Task": {"Comment", "Type", "Resource", "Arguments", "Assign", "TimeoutSeconds", "Retry", "Catch", "Next"},
    "Choice": {"Comment", "Type", "Choices", "Default"},
    "Wait": {"Comment", "Type", "Seconds", "Assign", "Next"},
    "Succeed": {"Comment", "Type"},
    "Fail": {"Comment", "Type", "Error", "Cause"},
}
STEPS_MAX = 1_000


class TaskFailed(Exception):
    """A task's error and its cause, as Step Functions reports them."""

    def __init__(self, error: str, cause: str) -> None:
        super().__init__(error, cause)
        self.output = {"Error": error, "Cause": cause}


@dataclass
class Run:
    """What a run came to: its status, the states it went through, how long it took and, if it failed, with what."""

    status: str = "RUNNING"
    path: list[str] = field(default_factory=list)
    seconds: float = 0
    error: dict[str, str] | None = None


def run(definition: dict[str, Any], given: Any, began: str, answer: Callable[[str, dict[str, Any]], Any]) -> Run:
    """The definition carried out. `answer` is given each task's resource and arguments; it returns or raises TaskFailed."""
    assert definition["QueryLanguage"] == "JSONata"
    done, variables, name = Run(), {}, definition["StartAt"]
    context = {"Execution": {"StartTime": began}, "StateMachine": {"Id": "arn:of:the:machine"}}
    for _ in range(STEPS_MAX):
        state, states = definition["States"][name], {"input": given, "context": context}
        assert set(state) <= KNOWN[state["Type"]], name
        done.path.append(name)
        match state["Type"]:
            case "Succeed":
                done.status = "SUCCEEDED"
                return done
            case "Fail":
                done.status, done.error = "FAILED", {k: evaluated(state[k], states, variables) for k in ("Error", "Cause")}
                return done
            case "Choice":
                chosen = (c["Next"] for c in state["Choices"] if evaluated(c["Condition"], states, variables) is True)
                name = next(chosen, state["Default"])
                continue
            case "Wait":
                done.seconds += state["Seconds"]
            case "Task":
                try:
                    given = states["result"] = attempts(state, evaluated(state["Arguments"], states, variables), answer, done)
                except TaskFailed as failure:
                    if "Catch" not in state:
                        done.status, done.error = "FAILED", failure.output
                        return done
                    (catch,) = state["Catch"]
                    assert catch["ErrorEquals"] == ["States.ALL"]
                    given, name = evaluated(catch["Output"], states | {"errorOutput": failure.output}, variables), catch["Next"]
                    continue
        variables |= evaluated(state.get("Assign", {}), states, variables)
        name = state["Next"]
        if done.seconds > definition["TimeoutSeconds"]:
            done.status = "TIMED_OUT"
            return done
    raise AssertionError(f"it does not end: {done.path[-10:]}")


def attempts(state: dict[str, Any], arguments: Any, answer: Callable[[str, dict[str, Any]], Any], done: Run) -> Any:
    """The task's result, after as many attempts as it is allowed."""
    (retry,) = state["Retry"]
    assert retry["ErrorEquals"] == ["States.ALL"]
    wait = retry["IntervalSeconds"]
    for _ in range(retry["MaxAttempts"]):
        try:
            return answer(state["Resource"], arguments)
        except TaskFailed:
            done.seconds += min(wait, retry["MaxDelaySeconds"])
            wait *= retry["BackoffRate"]
    return answer(state["Resource"], arguments)


def evaluated(value: Any, states: dict[str, Any], variables: dict[str, Any]) -> Any:
    """`value` with each text in {% %} computed. What is not there is an error, as in Step Functions."""
    if isinstance(value, dict):
        return {key: evaluated(one, states, variables) for key, one in value.items()}
    if not (isinstance(value, str) and value.startswith("{%") and value.endswith("%}")):
        return value
    expression = jsonata.Jsonata(value[2:-2])
    for name, known in {"states": states, **variables}.items():
        expression.assign(name, known)
    result = expression.evaluate(None)
    assert result is not None, f"nothing comes of {value}"
    return json.loads(json.dumps(result))
