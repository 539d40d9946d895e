import time

from experiments.run.alternating import alternate


def test_each_has_its_turn_and_its_median():
    calls = []

    def taking(name, seconds):
        def call():
            calls.append(name)
            time.sleep(seconds if len(calls) != 9 else 10 * seconds)

        return call

    found = alternate({"short": taking("short", 0.001), "long": taking("long", 0.03)}, 5)
    assert calls == ["short", "long"] * 7  # The first two turns compile.
    # One turn that took ten times as long does not show.
    assert 1 <= found["short"] < 10 and 30 <= found["long"] < 120
