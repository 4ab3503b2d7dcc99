"""The feed of whoever is logged in, and a form for a new tweet."""

from django.contrib.auth.decorators import login_required
from django.http import HttpResponseBadRequest
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST

from feed.models import Tweet
from feed.posting import post_tweet
from feed.reading import newest

LONGEST = Tweet._meta.get_field("content").max_length


@login_required
def home(request):
    return render(request, "feed/home.html", {"tweets": newest(request.user), "longest": LONGEST})


@login_required
@require_POST
def post(request):
    content = request.POST.get("content", "").strip()
    if not 0 < len(content) <= LONGEST:
        return HttpResponseBadRequest(f"a tweet has 1 to {LONGEST} letters")
    post_tweet(request.user, content)
    return redirect("/")
