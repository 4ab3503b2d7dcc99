"""Which table is in which database: news feeds have one of their own."""


class FeedRouter:
    """Keep `NewsFeed` in the database `feeds`, and everything else in `default`."""

    def db_for_read(self, model, **hints):
        return "feeds" if model._meta.label == "feed.NewsFeed" else "default"

    db_for_write = db_for_read

    def allow_migrate(self, db, app_label, model_name=None, **hints):
        in_feeds = (app_label, model_name) == ("feed", "newsfeed")
        return in_feeds == (db == "feeds")
