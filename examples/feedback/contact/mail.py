"""The mail itself."""

from __future__ import annotations

import time

from django.conf import settings
from django.core.mail import EmailMessage


def send_feedback_mail(address: str, message: str, key: str) -> None:
    """Send it, slowly.

    :raises OSError: the mail server is away or refuses it (`smtplib.SMTPException` is one).
    """
    time.sleep(settings.FEEDBACK_SECONDS)
    EmailMessage(
        subject="Your feedback",
        body=f"{message}\n\nThank you for your feedback!\n",
        to=[address],
        # The same in every attempt: mailboxes show two copies of one Message-ID as one.
        headers={"Message-ID": f"<{key}@feedback.example.com>"},
    ).send()
