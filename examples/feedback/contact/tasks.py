"""What is done in the background."""

from __future__ import annotations

import logging

from django.conf import settings

from celeriac import shared_task
from contact.mail import send_feedback_mail
from contact.models import Mail

logger = logging.getLogger(__name__)


@shared_task(
    bind=True,
    autoretry_for=(OSError,),  # no connection, or smtplib.SMTPException: the server says no
    max_retries=5,
    retry_backoff=settings.FEEDBACK_RETRY_SECONDS,  # 2 s, 4 s, 8 s, ...
    retry_backoff_max=600,
    retry_jitter=False,
    soft_time_limit=0.8 * settings.FEEDBACK_TIME_LIMIT,  # raises in the task, which ends cleanly
    time_limit=settings.FEEDBACK_TIME_LIMIT,  # kills the process that did not
)
def send_feedback_email_task(self, address: str, message: str, key: str) -> str:
    """Send the mail, once for each key, however often this runs."""
    if not Mail.claim(key, seconds=settings.FEEDBACK_TIME_LIMIT):
        if Mail.is_sent(key):
            return "was sent before"
        # Another worker is at it, or was killed while it was: look again when its claim has ended.
        raise self.retry(countdown=settings.FEEDBACK_TIME_LIMIT)
    try:
        send_feedback_mail(address, message, key)
    except BaseException:
        Mail.release(key)
        raise
    Mail.sent(key)
    logger.info("feedback %s is mailed", key)
    return "sent"
