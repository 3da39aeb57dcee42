"""All tests of this folder read or write parquet."""

import pytest

pytest.importorskip("pyarrow", reason="needs the optional extra parquet")
