-- Makes the database of pairsearch and three roles, each with a password from a file of its own. The postgres container
-- runs it once, as its superuser, when the data volume is still empty.
--
--   pairsearch          owns the database and makes its tables: `create`, and nobody else
--   pairsearch_worker   reads, adds and changes rows: workers and evaluation. No DELETE, TRUNCATE, DROP or ALTER
--   pairsearch_reader   reads rows: the dashboard
--
-- None of them can make roles or databases, or connect to the other databases of this server. The superuser loses its
-- password, so that it can log in only inside the container (`docker compose exec postgres psql -U postgres`).
\set ON_ERROR_STOP on
\set owner `cat /run/secrets/owner_password`
\set worker `cat /run/secrets/worker_password`
\set reader `cat /run/secrets/reader_password`
create role pairsearch nologin nosuperuser nocreatedb nocreaterole noreplication noinherit password :'owner';
create role pairsearch_worker login nosuperuser nocreatedb nocreaterole noreplication noinherit password :'worker';
create role pairsearch_reader login nosuperuser nocreatedb nocreaterole noreplication noinherit password :'reader';
-- The rights below forbid writing. This setting, which a session can change, refuses earlier and with a clear message.
alter role pairsearch_reader set default_transaction_read_only = on;

create database pairsearch owner pairsearch;
-- `all` includes the right to make temporary tables.
revoke all on database pairsearch from public;
grant connect on database pairsearch to pairsearch_worker, pairsearch_reader;
-- By default PostgreSQL lets every role connect to every database.
revoke connect on database postgres from public;
revoke connect on database template1 from public;
alter role postgres password null;

\connect pairsearch
revoke all on schema public from public;
-- By default PostgreSQL lets every role store large objects.
revoke execute on function lo_creat(integer), lo_create(oid), lo_from_bytea(oid, bytea) from public;
grant usage, create on schema public to pairsearch;
grant usage on schema public to pairsearch_worker, pairsearch_reader;
-- `create` makes the tables later, Optuna's included, so the rights of the other roles are set as defaults.
alter default privileges for role pairsearch in schema public
    grant select, insert, update on tables to pairsearch_worker;
alter default privileges for role pairsearch in schema public
    grant usage on sequences to pairsearch_worker;
alter default privileges for role pairsearch in schema public
    grant select on tables to pairsearch_reader;

-- Last of all, as the health check of the container takes this login for the sign that the set-up is complete.
alter role pairsearch login;
