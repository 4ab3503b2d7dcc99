"""Who follows whom, what was said, and who is to read it."""

from django.contrib.auth.models import AbstractUser
from django.db import models


class User(AbstractUser):
    """Who writes and reads."""


class Friendship(models.Model):
    """`from_user` follows `to_user`."""

    from_user = models.ForeignKey(User, models.CASCADE, related_name="following")
    to_user = models.ForeignKey(User, models.CASCADE, related_name="followers", db_index=False)

    class Meta:
        constraints = [
            # In this order it is the index as well by which a batch of followers is found.
            models.UniqueConstraint(fields=["to_user", "from_user"], name="follows_once"),
        ]


class Tweet(models.Model):
    """What somebody said."""

    user = models.ForeignKey(User, models.CASCADE, related_name="tweets")
    content = models.CharField(max_length=280)
    created_at = models.DateTimeField(auto_now_add=True)
    # What the fan-out's summary wrote: None as long as it is on its way.
    fanned_out_to = models.PositiveIntegerField(null=True)

    class Meta:
        indexes = [models.Index(fields=["user", "-created_at"])]


class NewsFeed(models.Model):
    """A tweet in somebody's feed: numbers alone, for it may be kept in another database than the rest."""

    user_id = models.BigIntegerField()
    tweet_id = models.BigIntegerField()

    class Meta:
        constraints = [
            # What makes the fan-out safe to run twice: the second row is ignored.
            models.UniqueConstraint(fields=["user_id", "tweet_id"], name="in_a_feed_once"),
        ]
