"""`manage.py follow NAME --followers 1000`: make a user whom so many follow."""

from django.contrib.auth.hashers import make_password
from django.core.management.base import BaseCommand
from django.db import transaction

from feed.models import Friendship, User

AT_ONCE = 5000


def make_followers(name, count, password="password"):
    """Make the user `name` and the first followers that are missing; return the user.

    They are called follower0, follower1, ...; all have the same password.
    """
    secret = make_password(password)
    user, _ = User.objects.get_or_create(username=name, defaults={"password": secret})
    for start in range(0, count, AT_ONCE):
        numbers = range(start, min(start + AT_ONCE, count))
        names = [f"follower{number}" for number in numbers]
        with transaction.atomic():
            User.objects.bulk_create(
                [User(username=one, password=secret) for one in names], ignore_conflicts=True
            )
            ids = User.objects.filter(username__in=names).values_list("pk", flat=True)
            Friendship.objects.bulk_create(
                [Friendship(from_user_id=one, to_user=user) for one in ids], ignore_conflicts=True
            )
    return user


class Command(BaseCommand):
    help = "Make a user whom many follow."

    def add_arguments(self, parser):
        parser.add_argument("name")
        parser.add_argument("--followers", type=int, default=1000)
        parser.add_argument("--password", default="password")

    def handle(self, *args, name, followers, password, **options):
        user = make_followers(name, followers, password)
        self.stdout.write(f"{name} has {user.followers.count()} followers")
