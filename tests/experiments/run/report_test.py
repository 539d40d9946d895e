from experiments.run import report

SUMMARY = {
    "flags": {"latent_dim": 8},
    "baseline": {
        "val_auc": 0.71,
        "test_auc": 0.7,
        "test_logloss": 0.5,
        "test_calibration": 1.234,
        "rows_kept": 1000,
        "table_parameters": 8000,
        "total_parameters": 9000,
        "seconds": 1.25,
    },
    "search": {
        "val_auc": 0.72,
        "rows_kept": 500,
        "table_parameters": 2000,
        "total_parameters": 3000,
        "seconds": 61,
        "rows_by_frequency": [
            {"seen": "0", "rows": 0, "rows_kept": 0},
            {"seen": "2-9", "rows": 900, "rows_kept": 450},
            {"seen": "100+", "rows": 100, "rows_kept": 50},
        ],
    },
    "fields": [
        {"name": "user", "rows": 800, "rows_kept": 400, "dim": 4},
        {"name": "hour", "rows": 200, "rows_kept": 0, "dim": 8},
    ],
}


def test_phases_are_compared_with_the_full_table():
    heading, rule, baseline, search = report.phase_table(SUMMARY).splitlines()
    assert heading.split()[0] == "phase" and set(rule) == {"-"}
    assert baseline.split() == [
        *(
            "baseline",
            "0.7100",
            "0.7000",
            "0.5000",
            "1.23",
            "1,000",
            "8,000",
            "100.0",
            "%",
            "9,000",
            "1.2",
        )
    ]
    assert search.split() == [
        *("search", "0.7200", "-", "-", "-", "500", "2,000", "25.0", "%", "3,000", "61.0")
    ]


def test_fields_show_the_share_that_is_kept():
    user, hour = report.field_table(SUMMARY, width=8).splitlines()[2:]
    assert user.split() == ["user", "800", "400", "4", "##", "25.0", "%"]
    assert hour.split() == ["hour", "200", "0", "8", "0.0", "%"]


def test_fields_of_single_numbers_show_what_is_kept_of_them():
    fields = [{**field, "parameters": 320} for field in SUMMARY["fields"]]
    user, hour = report.field_table({**SUMMARY, "fields": fields}, width=8).splitlines()[2:]
    assert user.split()[-2:] == ["5.0", "%"] and hour.split()[-2:] == ["20.0", "%"]


def test_rows_that_fields_share_are_told():
    search = SUMMARY["search"] | {"rows_kept": 1000, "rows_stored": 250, "shares_rows": True}
    summary = {**SUMMARY, "search": search}
    assert report.field_table(summary).splitlines()[-1] == (
        "fields share rows: the table has 250 of 2,000 parameters, and one counts in each field "
        "whose values read it"
    )
    assert report.phase_table(summary).splitlines()[-1].split()[5] == "250"
    assert report.shared_rows(SUMMARY) == ""


def test_people_see_how_often_the_kept_rows_were_seen():
    heading, _, none, some, many = report.frequency_table(SUMMARY).splitlines()
    assert heading.split() == ["seen", "in", "training", "rows", "rows", "kept", "share", "kept"]
    assert none.split() == ["0", "times", "0", "0", "-"]
    assert some.split() == ["2-9", "times", "900", "450", "50.0", "%"]
    assert many.split() == ["100+", "times", "100", "50", "50.0", "%"]


def test_columns_are_aligned():
    lines = report.phase_table(SUMMARY).splitlines()
    assert len({len(line) for line in lines}) == 1


def test_what_a_phase_warned_of_is_told_at_the_end():
    assert report.findings(SUMMARY) == []
    warned = SUMMARY | {"baseline": SUMMARY["baseline"] | {"warnings": ["it is off", "badly"]}}
    assert report.findings(warned) == ["warning: baseline: it is off\nwarning: baseline: badly"]


def test_a_verdict_tells_what_the_tables_may_cost():
    verdict = {"seeds": [1, 2], "verdict": "a tie"}
    for budget, told in (
        ({"budget_parameters": 1200}, "at most 1,200 table parameters"),
        ({"budget_bundle_bytes": 60_000}, "at most 60,000 bytes of the bundle"),
    ):
        (found,) = report.findings({**SUMMARY, "verify": {**verdict, **budget}})
        assert found == f"verdict over 2 seeds (test AUC, {told}): a tie"
