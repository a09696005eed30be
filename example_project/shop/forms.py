from django import forms

from example_project.shop.bank import Card
from example_project.shop.carrier import Address

MOST = 10
MOST_PERCENT = 30


class OrderForm(forms.Form):
    """What a customer sends; the key makes sending it twice harmless."""

    key = forms.UUIDField(widget=forms.HiddenInput)
    quantity = forms.IntegerField(min_value=1, max_value=MOST, initial=1)
    email = forms.EmailField(label="Your e-mail address")
    address = forms.ChoiceField(label="Where to", choices=Address.choices)
    card = forms.ChoiceField(
        label="How you pay",
        required=False,
        initial=Card.GOOD,
        choices=[
            *((card.value, f"by card, {card.label}") for card in Card),
            ("", "later, on the bank's own page"),
        ],
    )
    discount_wish = forms.CharField(
        label="Why you should get a discount",
        required=False,
        max_length=100,
        help_text="If you ask for one, a manager decides.",
    )


class DiscountForm(forms.Form):
    """What a manager fills in to grant a discount."""

    percent = forms.IntegerField(label="Percent", min_value=1, max_value=MOST_PERCENT, initial=10)
