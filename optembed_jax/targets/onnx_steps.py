"""What some fields make of a number, in ONNX operators: ``values.steps`` of texts of integers.

A value that the step refuses (no integer, no such hour) is not told here: a graph raises nothing.
It comes out as some number, which mostly has no row.
"""

from collections.abc import Callable, Mapping

import numpy as np

from optembed_jax.targets.onnx_graph import Graph

Step = Callable[[Graph, str], str]
"""Numbers, doubles ``[N]``, to what the step makes of them, doubles ``[N]``."""


def _calculate(graph: Graph, kind: str, left: str, right: float | str) -> str:
    other = right if isinstance(right, str) else graph.constant(np.float64(right))
    return graph.op(kind, left, other)


def _over(graph: Graph, value: str, by: float) -> str:
    """The quotient, rounded down."""
    return graph.op("Floor", _calculate(graph, "Div", value, by))


def _rest(graph: Graph, value: str, by: float) -> str:
    """What is left of the quotient, in ``0..by``."""
    return _calculate(graph, "Sub", value, _calculate(graph, "Mul", _over(graph, value, by), by))


def _where(graph: Graph, kind: str, value: str, limit: float, yes: float, no: float) -> str:
    condition = _calculate(graph, kind, value, limit)
    return graph.op(
        "Where", condition, graph.constant(np.float64(yes)), graph.constant(np.float64(no))
    )


def _sum(graph: Graph, *parts: tuple[float, str], plus: float = 0.0) -> str:
    total = graph.constant(np.float64(plus))
    for factor, value in parts:
        total = _calculate(graph, "Add", total, _calculate(graph, "Mul", value, factor))
    return total


def _log_bucket(graph: Graph, value: str) -> str:
    log = graph.op("Log", _calculate(graph, "Max", value, 3.0))
    bucket = graph.op("Floor", graph.op("Mul", log, log))
    return graph.op("Where", _calculate(graph, "LessOrEqual", value, 2.0), value, bucket)


def _hour(graph: Graph, seconds: str) -> str:
    return _over(graph, _rest(graph, seconds, 86400.0), 3600.0)


def _weekday_of_second(graph: Graph, seconds: str) -> str:
    return _weekday_of_day(graph, _over(graph, seconds, 86400.0))


def _weekday_of_day(graph: Graph, day: str) -> str:
    """Days since 1970, which began on a Thursday, to 1 (Monday) to 7."""
    return _sum(graph, (1.0, _rest(graph, _sum(graph, (1.0, day), plus=3.0), 7.0)), plus=1.0)


def _year(graph: Graph, seconds: str) -> str:
    return _date(graph, _over(graph, seconds, 86400.0))[0]


def _month(graph: Graph, seconds: str) -> str:
    return _date(graph, _over(graph, seconds, 86400.0))[1]


def _date(graph: Graph, day: str) -> tuple[str, str]:
    """Year and month of a day since 1970, in years that begin in March.

    There leap days are the last ones, 400 years have 146,097 days, and five months 153.
    """
    since = _sum(graph, (1.0, day), plus=719468.0)  # of March 1st of the year 0
    cycle, in_cycle = _over(graph, since, 146097.0), _rest(graph, since, 146097.0)
    leap_days = _sum(
        graph,
        (-1.0, _over(graph, in_cycle, 1460.0)),
        (1.0, _over(graph, in_cycle, 36524.0)),
        (-1.0, _over(graph, in_cycle, 146096.0)),
    )
    year = _over(graph, _calculate(graph, "Add", in_cycle, leap_days), 365.0)
    before = (
        (-365.0, year),
        (-1.0, _over(graph, year, 4.0)),
        (1.0, _over(graph, year, 100.0)),
    )
    in_year = _sum(graph, (1.0, in_cycle), *before)
    march = _over(graph, _sum(graph, (5.0, in_year), plus=2.0), 153.0)
    month = _calculate(graph, "Add", march, _where(graph, "GreaterOrEqual", march, 10.0, -9.0, 3.0))
    january = _where(graph, "LessOrEqual", month, 2.0, 1.0, 0.0)
    return _sum(graph, (400.0, cycle), (1.0, year), (1.0, january)), month


def _hour_of_day(graph: Graph, value: str) -> str:
    return _rest(graph, value, 100.0)


def _weekday(graph: Graph, value: str) -> str:
    """``YYMMDDHH`` to 1 (Monday) to 7, by the days since March 1st of the year 0."""
    date = _over(graph, value, 100.0)
    day = _rest(graph, date, 100.0)
    month = _rest(graph, _over(graph, date, 100.0), 100.0)
    is_early = _where(graph, "LessOrEqual", month, 2.0, 1.0, 0.0)
    year = _sum(graph, (1.0, _over(graph, date, 10000.0)), (-1.0, is_early), plus=2000.0)
    march = _sum(graph, (1.0, month), (12.0, is_early), plus=-3.0)
    days = _over(graph, _sum(graph, (153.0, march), plus=2.0), 5.0)
    whole = _sum(
        graph,
        (365.0, year),
        (1.0, _over(graph, year, 4.0)),
        (-1.0, _over(graph, year, 100.0)),
        (1.0, _over(graph, year, 400.0)),
        (1.0, days),
        (1.0, day),
        plus=-719469.0,
    )
    return _weekday_of_day(graph, whole)


def _is_weekend(graph: Graph, value: str) -> str:
    return _where(graph, "GreaterOrEqual", _weekday(graph, value), 6.0, 1.0, 0.0)


NUMBER_STEPS: Mapping[str, Step] = {
    "log_bucket": _log_bucket,
    "hour_of_day": _hour_of_day,
    "weekday": _weekday,
    "is_weekend": _is_weekend,
    "year": _year,
    "month": _month,
    "weekday_of_second": _weekday_of_second,
    "hour": _hour,
}
"""The steps of ``values.steps`` that take integers and give texts of integers."""
