#!/usr/bin/env bash
# FuxiCTR 2.3.10: its preparation cannot read a CSV with the polars that pip installs beside it.
#
# The package asks for `polars` of any version, and `FeatureProcessor.read_data` hands `scan_csv` the
# argument `dtypes`, which polars has renamed to `schema_overrides` and no longer takes. After a fresh
# `pip install fuxictr` its own preparation therefore reads no CSV.
# Expected: an upper bound on polars, or the new name.
#
# Seen on 2026-11-28 with fuxictr 2.3.10, polars 2.1.0:
#     TypeError: the argument 'dtypes' for 'scan_csv' was deprecated in version 0.20.31 and has been
#     removed in version 2.0. It was renamed to 'schema_overrides'.
# Around it: an older polars, or arrays fed to its models directly (a `FeatureMap` made in memory).
#
# Succeeds while that is so; fails once it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check \
    fuxictr==2.3.10 polars==2.1.0 'ray[data]==2.60.0' numpy==2.4.6
printf 'click,item\n1,a\n0,b\n' > "$folder/rows.csv"
cat > "$folder/show.py" <<'PY'
import sys

from fuxictr.preprocess import FeatureProcessor

processor = FeatureProcessor(
    feature_cols=[{"name": "item", "active": True, "dtype": "str", "type": "categorical"}],
    label_col={"name": "click", "dtype": "float"},
    dataset_id="rows",
    data_root=sys.argv[1],
)
try:
    rows = processor.read_data(f"{sys.argv[1]}/rows.csv", data_format="csv").collect()
except TypeError as error:
    print(f"TypeError: {error}")
    assert "dtypes" in str(error)
else:
    sys.exit(f"it read {len(rows)} rows: this has changed")
PY
"$folder/env/bin/python" "$folder/show.py" "$folder"
