"""Pages for people who are not operators. ``include("django_durable.urls")`` puts them on a site.

Each extends ``durable/base.html``, which a project may replace by its own.
"""
