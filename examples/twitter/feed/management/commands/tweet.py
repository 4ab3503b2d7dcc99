"""`manage.py tweet NAME TEXT`: post a tweet, and say how long that took."""

import time

from django.core.management.base import BaseCommand

from feed.models import User
from feed.posting import post_tweet


class Command(BaseCommand):
    help = "Post a tweet."

    def add_arguments(self, parser):
        parser.add_argument("name")
        parser.add_argument("text")

    def handle(self, *args, name, text, **options):
        user = User.objects.get(username=name)
        began = time.perf_counter()
        tweet = post_tweet(user, text)
        self.stdout.write(
            f"tweet {tweet.pk} posted in {(time.perf_counter() - began) * 1000:.1f} ms"
        )
