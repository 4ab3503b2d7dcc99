"""Users, who follows whom, tweets and news feeds."""
