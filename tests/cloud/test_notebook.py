"""The notebook, cell by cell as Jupyter would run it, over the delivered lake; its figures against those of the named queries."""

import json

import matplotlib
import matplotlib.pyplot as plt
import pytest

import lake
import template as cfn


def bikes_session(delivered):
    """One whose sensor had no other on its days."""
    return next(line["session_id"] for line in delivered.lines if line["timestamp"].startswith("2025-10-26"))


@pytest.fixture(params=[None, bikes_session], ids=["the longest session", "a session by its name"])
def shown(request, delivered, tmp_path, monkeypatch):
    """What the notebook's variables are after its last cell, and what it drew."""
    session = request.param and request.param(delivered)
    matplotlib.use("Agg")
    (tmp_path / "lake").symlink_to(delivered.root)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plt, "show", lambda: plt.savefig(tmp_path / "session.png"))
    names = {}
    for cell in json.loads((cfn.CLOUD / "session.ipynb").read_text())["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [], "commit it without anybody's readings"
            text = "".join(cell["source"]).replace("SESSION = None", f"SESSION = {session!r}")
            exec(compile(text, "session.ipynb", "exec"), names)
    return names | {"picture": tmp_path / "session.png", "session": session}


def test_the_notebook_shows_a_session_as_the_queries_do(shown, duck):
    assert shown["picture"].stat().st_size > 10_000
    day = f"{shown['times'][0]:%Y-%m-%d}"
    session, sensor = shown["chosen"][0]["session_id"], shown["chosen"][0]["sensor_id"]
    assert shown["session"] in (None, session)
    last_day = f"{shown['times'][-1]:%Y-%m-%d}"

    def query(name, *parameters):
        return duck.rows(lake.filled(name, *parameters))

    row, = (row for row in query("sessions", day, last_day) if row["session_id"] == session)
    assert (row["readings"], row["lowest"], row["highest"]) == (len(shown["rates"]), shown["lowest"], shown["highest"])
    assert row["mean"] == pytest.approx(shown["mean"])
    if shown["session"] is None:
        return  # The query's zones are of all sessions of a sensor.
    zones = {row["zone"]: row["seconds"] for row in query("zones", day, last_day, 190) if row["sensor_id"] == sensor}
    assert {zone: pytest.approx(seconds) for zone, seconds in zones.items()} == {
        zone: seconds for zone, seconds in enumerate(shown["seconds"], 1) if zone in zones}
    assert sum(zones.values()) == pytest.approx(sum(shown["seconds"]))
