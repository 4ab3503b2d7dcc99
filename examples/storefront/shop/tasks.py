"""What is done in the background."""

from __future__ import annotations

import logging
import time

from django.conf import settings

from celeriac import shared_task
from shop.models import Customer, Notice

logger = logging.getLogger(__name__)


@shared_task
def notify_customers(text: str) -> str:
    """Tell all customers something."""
    logger.info("telling all customers: %s", text)
    time.sleep(settings.NOTIFY_SECONDS)  # this stands for ten thousand mails
    told = Customer.objects.count()
    Notice.objects.create(text=text, state=Notice.State.SENT, customers=told)
    return f"{told} customers were told"


@shared_task
def send_kept_notices() -> int:
    """Send what could not be sent when it was written; return how many those were."""
    kept = Notice.objects.filter(state=Notice.State.KEPT)
    sent = 0
    for notice in kept:
        notify_customers.delay(notice.text)
        notice.delete()  # after `delay`: told twice is better than not at all
        sent += 1
    return sent


@shared_task
def report() -> str:
    """Say how the week was."""
    return f"{Notice.objects.filter(state=Notice.State.SENT).count()} notices so far"
