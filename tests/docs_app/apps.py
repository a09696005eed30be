from django.apps import AppConfig


class DocsAppConfig(AppConfig):
    name = "tests.docs_app"
    label = "docs_app"
