-- Run once by the postgres container, as its superuser, when the data volume is still empty: the role and the
-- database of pairsearch. The role owns its database and nothing else. The superuser loses its password, so that
-- it can be used inside the container only (`docker compose exec postgres psql -U postgres`).
\set ON_ERROR_STOP on
\getenv password POSTGRES_PASSWORD
create role pairsearch login nosuperuser nocreatedb nocreaterole noreplication password :'password';
create database pairsearch owner pairsearch;
revoke all on database pairsearch from public;
alter role postgres password null;
