"""The protocol of ``django_durable``, rule by rule, on a real PostgreSQL.

``stories_*.py`` tell what may happen between two statements: sessions that race are threads with
their own connection, stopped where a lock or an open transaction stops them. ``test_rules.py`` runs
each story as the code is, and again with its rule switched off, when it must fail: a rule whose
absence no test notices is not held by anything.
"""
