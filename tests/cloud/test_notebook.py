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
    return names | {"picture": tmp_path / "session.png", "asked": session}


def test_the_notebook_shows_a_session_as_the_queries_do(shown, duck):
    assert shown["picture"].stat().st_size > 10_000
    asked = shown["asked"]
    rate, session, sensor = shown["rate"], shown["session"], shown["chosen"]["sensor_id"].iloc[0]
    assert asked in (None, session)
    day, last_day = (f"{time:%Y-%m-%d}" for time in (rate.index[0], rate.index[-1]))

    def query(name, *parameters):
        return duck.rows(lake.filled(name, *parameters))

    row, = (row for row in query("sessions", day, last_day) if row["session_id"] == session)
    assert (row["readings"], row["lowest"], row["highest"]) == (len(rate), rate.min(), rate.max())
    assert row["mean"] == pytest.approx(rate.mean())
    if asked is None:
        return  # The query's zones are of all sessions of a sensor.
    zones = {row["zone"]: row["seconds"] for row in query("zones", day, last_day, 190) if row["sensor_id"] == sensor}
    minutes = shown["minutes_in_zone"]
    assert {zone: pytest.approx(seconds) for zone, seconds in zones.items()} == {
        zone: 60 * spent for zone, spent in enumerate(minutes, 1) if zone in zones}
    assert sum(zones.values()) == pytest.approx(60 * minutes.sum())
