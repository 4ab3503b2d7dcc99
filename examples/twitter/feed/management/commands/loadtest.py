"""`manage.py loadtest`: post for 100,000 followers, again and again, while workers catch up."""

import statistics
import time

from django.core.management.base import BaseCommand, CommandError

from feed.management.commands.follow import make_followers
from feed.models import NewsFeed, Tweet
from feed.posting import post_tweet
from feed.tasks import fanout_to_followers


class Command(BaseCommand):
    help = "Measure how long posting takes while workers write the feeds."

    def add_arguments(self, parser):
        parser.add_argument("--followers", type=int, default=100_000)
        parser.add_argument("--tweets", type=int, default=10)
        parser.add_argument("--every", type=float, default=2.0, help="seconds from post to post")
        parser.add_argument("--within", type=float, default=600, help="seconds to catch up")

    def handle(self, *args, followers, tweets, every, within, **options):
        began = time.perf_counter()
        author = make_followers("star", followers)
        followers = author.followers.count()  # it may have had more
        self.say(f"{followers} followers made in {time.perf_counter() - began:.1f} s")

        post_tweet(author, "hello")  # the first one connects; a site has done so long ago
        took, posted = [], []
        began = time.perf_counter()
        for number in range(tweets):
            time.sleep(max(0.0, began + number * every - time.perf_counter()))
            start = time.perf_counter()
            posted.append(post_tweet(author, f"tweet {number}").pk)
            took.append((time.perf_counter() - start) * 1000)
        behind = self.waiting(posted)
        self.say(
            f"{tweets} tweets posted in {time.perf_counter() - began:.1f} s: "
            f"median {statistics.median(took):.1f} ms, slowest {max(took):.1f} ms; "
            f"{behind} of them were still on their way when the last one was posted"
        )

        while self.waiting(posted):
            if time.perf_counter() - began > within:
                raise CommandError(
                    f"{self.waiting(posted)} tweets are not fanned out: is a worker there?"
                )
            time.sleep(0.1)
        seconds = time.perf_counter() - began
        rows = NewsFeed.objects.filter(tweet_id__in=posted).count()
        self.say(f"{rows} feeds written in {seconds:.1f} s: {rows / seconds:.0f} a second")
        if rows != tweets * (followers + 1):
            raise CommandError(f"there should be {tweets * (followers + 1)}")

        Tweet.objects.filter(pk=posted[0]).update(fanned_out_to=None)
        fanout_to_followers.delay(posted[0])
        while self.waiting(posted[:1]):
            time.sleep(0.1)
        again = NewsFeed.objects.filter(tweet_id__in=posted).count()
        self.say(f"the first one fanned out once more: {again - rows} feeds more")

    def waiting(self, posted):
        """Return how many of the tweets are not in all feeds."""
        return Tweet.objects.filter(pk__in=posted, fanned_out_to=None).count()

    def say(self, text):
        self.stdout.write(text)
        self.stdout.flush()
