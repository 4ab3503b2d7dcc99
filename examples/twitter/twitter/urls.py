"""Where the pages are."""

from django.contrib.auth.views import LoginView
from django.urls import path
from feed import views

urlpatterns = [
    path("", views.home),
    path("login/", LoginView.as_view(template_name="feed/login.html")),
    path("tweets/", views.post),
]
