"""How a scenario is written down: a function of a Lab, under `@scenario`; its docstring is the line that is shown."""

from collections.abc import Callable
from dataclasses import dataclass

from lab import Lab


@dataclass(frozen=True)
class Scenario:
    number: str  # of the issue: 2.1 is the first of its second
    name: str
    line: str
    run: Callable[[Lab], None]
    straps: int
    controllers: int
    arches: tuple[str, ...]
    soaks: bool

    @property
    def order(self) -> list[int]:
        return [int(part) for part in self.number.split(".")]


SCENARIOS: list[Scenario] = []


def scenario(
    number: str, straps: int = 1, controllers: int = 1, arches: tuple[str, ...] = ("amd64",), soaks: bool = False
) -> Callable[[Callable[[Lab], None]], Callable[[Lab], None]]:
    """Enters a function into the list. `soaks`: `--soak N` repeats what it does, by `lab.rounds`."""

    def enter(run: Callable[[Lab], None]) -> Callable[[Lab], None]:
        line = (run.__doc__ or run.__name__).splitlines()[0].strip()
        SCENARIOS.append(Scenario(number, run.__name__, line, run, straps, controllers, arches, soaks))
        return run

    return enter
