"""The operations of ``manage.py durable``, a module for each; ``operation`` says what one is.

They read rows and say what they mean. What changes a job is ``django_durable.jobs``.
"""
