"""All pages are those of `contact`."""

from django.urls import include, path

urlpatterns = [path("", include("contact.urls"))]
