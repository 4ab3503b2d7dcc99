"""Posting: a row, and a message for the workers."""

from django.db import transaction

from feed.models import Tweet
from feed.tasks import fanout_to_followers


def post_tweet(user, content):
    """Save a tweet and have it fanned out; return it at once.

    The message is sent once the row is committed: a worker that is quick must find it.
    """
    with transaction.atomic():
        tweet = Tweet.objects.create(user=user, content=content)
        fanout_to_followers.delay_on_commit(tweet.pk)
    return tweet
