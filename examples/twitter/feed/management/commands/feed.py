"""`manage.py feed NAME`: print somebody's news feed."""

from django.core.management.base import BaseCommand

from feed.models import User
from feed.reading import newest


class Command(BaseCommand):
    help = "Print somebody's news feed."

    def add_arguments(self, parser):
        parser.add_argument("name")

    def handle(self, *args, name, **options):
        for tweet in newest(User.objects.get(username=name)):
            self.stdout.write(f"{tweet.user.username}: {tweet.content}")
