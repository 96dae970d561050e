"""Decorators for tests with the fixture `servers`: the kinds of database that they run on; without one it is SQLite."""

import pytest

on_postgres = pytest.mark.parametrize("kind", ("postgresql",))
on_both = pytest.mark.parametrize("kind", ("sqlite", "postgresql"))
