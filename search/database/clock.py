"""The database's clock as SQL expressions. Leases use it, because the clocks of workers may be wrong."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Double
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from pairsearch.search.database.urls import POSTGRESQL, SQLITE


class now(FunctionElement[float]):  # noqa: N801 - an SQL function, lower case like sqlalchemy.func's
    """The time on the database's clock, in seconds since 1970 (UTC)."""

    type = Double()
    inherit_cache = True


@compiles(now, POSTGRESQL)
def _now_postgresql(element: now, compiler: Any, **options: Any) -> str:
    return "extract(epoch from clock_timestamp())::double precision"


@compiles(now, SQLITE)
def _now_sqlite(element: now, compiler: Any, **options: Any) -> str:
    # 2440587.5 is the Julian day of 1970-01-01; unixepoch('subsec') would need SQLite 3.42.
    return "((julianday('now') - 2440587.5) * 86400.0)"


class up_since(FunctionElement[float]):  # noqa: N801 - as above
    """When the database's server started, in seconds since 1970 (UTC) on its own clock; 0 for SQLite."""

    type = Double()
    inherit_cache = True


@compiles(up_since, POSTGRESQL)
def _up_since_postgresql(element: up_since, compiler: Any, **options: Any) -> str:
    return "extract(epoch from pg_postmaster_start_time())::double precision"


@compiles(up_since, SQLITE)
def _up_since_sqlite(element: up_since, compiler: Any, **options: Any) -> str:
    return "0.0"
