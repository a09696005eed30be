"""Pages for people who are not operators. ``include("django_durable.urls")`` puts them on a site.

Each page extends ``durable/base.html``, which a project may replace by its own. What a bar shows of
a job's progress is asked for by a signed address instead of a login.
"""
