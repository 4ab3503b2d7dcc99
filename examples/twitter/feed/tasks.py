"""The fan-out: one tweet into the feeds of all who follow, in batches, by many workers.

Each of these tasks may run twice, as any task may: a feed has a tweet once.
"""

from django.conf import settings

from celeriac import chord, shared_task
from feed.models import Friendship, NewsFeed, Tweet


@shared_task
def fanout_to_followers(tweet_id):
    """Cut the followers into batches, send a task for each, and one for when all are done.

    :return: how many batches.
    """
    author = Tweet.objects.values_list("user_id", flat=True).get(pk=tweet_id)
    # The author reads it, too.
    NewsFeed.objects.bulk_create(
        [NewsFeed(user_id=author, tweet_id=tweet_id)], ignore_conflicts=True
    )
    batches = [fanout_batch.s(tweet_id, author, first, last) for first, last in _batches_of(author)]
    if batches:
        chord(batches)(summarize.s(tweet_id))
    else:
        summarize.delay([], tweet_id)
    return len(batches)


def _batches_of(author):
    """Return the first and the last follower of each batch: two numbers, whatever its size."""
    followers = Friendship.objects.filter(to_user=author).order_by("from_user_id")
    ids = list(followers.values_list("from_user_id", flat=True))
    size = settings.FANOUT_BATCH
    return [(part[0], part[-1]) for part in (ids[i : i + size] for i in range(0, len(ids), size))]


@shared_task(autoretry_for=(OSError,), max_retries=5, retry_backoff=True)
def fanout_batch(tweet_id, author, first, last):
    """Write a tweet into the feeds of the followers from `first` to `last`.

    :return: how many they are.
    """
    followers = Friendship.objects.filter(to_user=author, from_user__gte=first, from_user__lte=last)
    feeds = [
        NewsFeed(user_id=follower, tweet_id=tweet_id)
        for follower in followers.values_list("from_user_id", flat=True)
    ]
    NewsFeed.objects.bulk_create(feeds, ignore_conflicts=True)
    return len(feeds)


@shared_task
def summarize(counts, tweet_id):
    """Note at the tweet how many feeds it went to."""
    total = sum(counts)
    Tweet.objects.filter(pk=tweet_id).update(fanned_out_to=total)
    return f"tweet {tweet_id}: {total} followers in {len(counts)} batches"
