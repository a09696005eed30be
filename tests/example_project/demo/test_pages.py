"""Reading pages."""

import pytest

from example_project.demo.errors import DemoError
from example_project.demo.pages import Page

HTML = """
    <input type="hidden" name="nowhere" value="0">
    <a href="/a/">a</a> <a>b</a>
    <form action="/pay/"><input type="hidden" name="token" value="1"><input name="typed"></form>
    <form><input type="hidden" name="token" value="2"></form>
"""


class PageTests:
    def test_knows_links_and_forms(self) -> None:
        page = Page(HTML)

        assert page.links == ["/a/", ""]
        assert page.form("/pay/").hidden == {"token": "1"}
        assert [form.action for form in page.forms] == ["/pay/", ""]

    def test_says_that_a_form_is_not_there(self) -> None:
        with pytest.raises(DemoError, match="no form for /cancel/"):
            Page(HTML).form("/cancel/")
