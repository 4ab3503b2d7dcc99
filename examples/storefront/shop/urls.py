"""Where the pages are."""

from django.urls import path

from shop import views

urlpatterns = [
    path("", views.storefront, name="storefront"),
    path("notify/", views.notify, name="notify"),
]
