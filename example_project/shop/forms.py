from django import forms

from example_project.shop.bank import Card

MOST = 10


class OrderForm(forms.Form):
    """What a customer sends; the key makes sending it twice harmless."""

    key = forms.UUIDField(widget=forms.HiddenInput)
    quantity = forms.IntegerField(min_value=1, max_value=MOST, initial=1)
    email = forms.EmailField(label="Your e-mail address")
    card = forms.ChoiceField(label="Your card", choices=Card.choices)
