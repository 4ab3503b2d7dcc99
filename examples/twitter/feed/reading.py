"""Reading a news feed: two queries, each by an index, however many its owner follows."""

from feed.models import NewsFeed, Tweet


def newest(user, count=50):
    """Return the newest tweets of somebody's feed, the newest first."""
    feed = NewsFeed.objects.filter(user_id=user.pk).order_by("-tweet_id")
    ids = list(feed.values_list("tweet_id", flat=True)[:count])
    return Tweet.objects.filter(pk__in=ids).select_related("user").order_by("-pk")
