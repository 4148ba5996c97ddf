"""The tests; `tests.fakes` is importable from anywhere among them."""
