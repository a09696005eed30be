"""Storage parameters of the tables that change much, so that autovacuum keeps up with them.

Each number is explained in docs/operations.md. They are parameters of the tables, which an owner may
set on any server, managed ones too, under a lock that neither reads nor writes wait for; the server's
own settings are left alone. Jobs and checkpoints get no fillfactor: each of their updates changes what
some partial index is about, so none can be made in place, and room for it would be wasted.
"""

from typing import ClassVar

from django.db import migrations

# 2 % of the rows rather than 20 %: a week of finished jobs must not hide the dead rows of today. A pass
# reads all of a table's indexes, so it may take five times the usual share of the disk, and be over.
MANY_ROWS = """
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_insert_scale_factor = 0.05,
    autovacuum_analyze_scale_factor = 0.05,
    autovacuum_vacuum_cost_limit = 1000
"""
# Rows that are updated again and again without a change to an index: half of each page is left for
# the next version, and vacuum comes by when a few pages are full of old ones.
FEW_ROWS = """
    fillfactor = 50,
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 500,
    autovacuum_analyze_scale_factor = 0,
    autovacuum_analyze_threshold = 500
"""
TABLES = {
    "durable_job": MANY_ROWS,
    "durable_checkpoint": MANY_ROWS,
    "durable_message": MANY_ROWS,
    "durable_attempt": MANY_ROWS,
    "durable_limitstart": MANY_ROWS,
    "durable_worker": FEW_ROWS,
    "durable_progress": FEW_ROWS,
    "durable_queue": FEW_ROWS,
    "durable_limit": FEW_ROWS,
    "durable_schedule": FEW_ROWS,
}


def names_of(parameters: str) -> str:
    return ", ".join(line.split("=")[0].strip() for line in parameters.strip().splitlines())


class Migration(migrations.Migration):
    dependencies: ClassVar = [("durable", "0003_flow_schedules_and_speed")]

    operations: ClassVar = [
        migrations.RunSQL(
            f"alter table {table} set ({parameters})",
            f"alter table {table} reset ({names_of(parameters)})",
        )
        for table, parameters in TABLES.items()
    ]
