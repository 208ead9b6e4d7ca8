"""The `>>>` examples of the public docstrings print what they say."""

import doctest

import nice_tf
from nice_tf import estimators


def examples():
    """The examples of each public name, methods included."""
    finder = doctest.DocTestFinder()
    for module in (nice_tf, estimators):
        for name in module.__all__:
            for test in finder.find(getattr(module, name), name, module=False, globs={}):
                if test.examples:
                    yield test


def test_examples_of_docstrings_print_what_they_say():
    runner = doctest.DocTestRunner()
    names = set()
    for test in examples():
        names.add(test.name)
        runner.run(test)
    assert not runner.summarize().failed
    assert {"build_flow", "fit", "AdditiveCoupling", "NiceDensity"} <= names
