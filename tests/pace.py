"""Which tests are left to `make test-all`."""

import pytest


def slow_except(names, *quick):
    """Parameters of a test of which `make test` takes the quick ones, and `make test-all` each."""
    names = list(names)
    missing = set(quick) - set(names)
    assert quick and not missing, missing
    params = []
    for name in names:
        marks = [] if name in quick else [pytest.mark.slow]
        params.append(pytest.param(name, marks=marks))
    return params
