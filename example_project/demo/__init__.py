"""The demo: orders, killed workers, and a count of what happened.

It stands outside: it starts processes, speaks HTTP to the shop and SQL to the database, and imports
neither Django nor the shop. Reading order: ``story``, ``evidence``, ``proof``.
"""
