"""The form."""

from __future__ import annotations

import uuid

from django import forms


class FeedbackForm(forms.Form):
    """An address, a message, and a key that tells this form from every other one."""

    email = forms.EmailField(label="Your e-mail address")
    message = forms.CharField(
        label="What do you think of us?", widget=forms.Textarea(attrs={"rows": 5})
    )
    key = forms.UUIDField(initial=uuid.uuid4, widget=forms.HiddenInput)

    def mail(self) -> tuple[str, str, str]:
        """Return what is to be sent: address, message, key."""
        data = self.cleaned_data
        return data["email"], data["message"], str(data["key"])
